package bundle

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var byValue = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func wantInvalid(t *testing.T, err error, reason string) {
	t.Helper()
	var invalid *InvalidError
	if !errors.As(err, &invalid) || !strings.Contains(err.Error(), reason) {
		t.Errorf("error is %v, want an *InvalidError with %q in it", err, reason)
	}
}

func TestParsePort(t *testing.T) {
	tests := []struct {
		in   string
		want []Port
		err  string
	}{
		{in: "80", want: []Port{{ContainerPort: 80, Protocol: "tcp"}}},
		{in: "53/udp", want: []Port{{ContainerPort: 53, Protocol: "udp"}}},
		{in: "9/sctp", want: []Port{{ContainerPort: 9, Protocol: "sctp"}}},
		{in: "65535", want: []Port{{ContainerPort: 65535, Protocol: "tcp"}}},
		{in: "8080:80", want: []Port{{ContainerPort: 80, Protocol: "tcp", HostPort: 8080}}},
		{in: "0:80", want: []Port{{ContainerPort: 80, Protocol: "tcp"}}},
		{in: "8080-8090:80", want: []Port{{ContainerPort: 80, Protocol: "tcp", HostPort: 8080, HostPortEnd: 8090}}},
		{in: "127.0.0.16::80", want: []Port{{ContainerPort: 80, Protocol: "tcp", HostIP: netip.MustParseAddr("127.0.0.16")}}},
		{in: "127.0.0.16:8080:80/udp", want: []Port{{ContainerPort: 80, Protocol: "udp", HostPort: 8080, HostIP: netip.MustParseAddr("127.0.0.16")}}},
		{in: "[::1]:8080:80", want: []Port{{ContainerPort: 80, Protocol: "tcp", HostPort: 8080, HostIP: netip.MustParseAddr("::1")}}},
		{in: "80-81", want: []Port{{ContainerPort: 80, Protocol: "tcp"}, {ContainerPort: 81, Protocol: "tcp"}}},
		{in: "8080-8081:80-81", want: []Port{{ContainerPort: 80, Protocol: "tcp", HostPort: 8080}, {ContainerPort: 81, Protocol: "tcp", HostPort: 8081}}},
		{in: "", err: "invalid port"},
		{in: "0", err: "from 1 to 65535"},
		{in: "70000", err: "from 1 to 65535"},
		{in: "80/icmp", err: "invalid port"},
		{in: "eighty", err: "invalid port"},
		{in: "-1", err: "invalid port"},
		{in: "localhost:1:2", err: "invalid port"},
		{in: "1:2:3", err: "invalid port"},
		{in: "8080-8090:80-82", err: "invalid port"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParsePort(tt.in)
			if tt.err != "" {
				wantInvalid(t, err, tt.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, byValue); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseContainerPort(t *testing.T) {
	tests := []struct {
		in, want, err string
	}{
		{in: "80", want: "80/tcp"},
		{in: "53/udp", want: "53/udp"},
		{in: "53/UDP", want: "53/udp"},
		{in: "0", err: "from 1 to 65535"},
		{in: "70000", err: "from 1 to 65535"},
		{in: "80/", err: "the protocol after '/' is missing"},
		{in: "80/icmp", err: "one of tcp, udp and sctp"},
		{in: "8080:80", err: "want PORT"},
		{in: "", err: "want PORT"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseContainerPort(tt.in)
			if tt.err != "" {
				wantInvalid(t, err, tt.err)
				return
			}
			if err != nil || got.Key() != tt.want {
				t.Errorf("port is %s, error %v, want %s", got.Key(), err, tt.want)
			}
		})
	}
}

func TestParseVolume(t *testing.T) {
	tests := []struct {
		in   string
		want Volume
		err  string
	}{
		{in: "/a:/b", want: Volume{Source: "/a", Target: "/b"}},
		{in: "/a:/b:ro", want: Volume{Source: "/a", Target: "/b", ReadOnly: true}},
		{in: "/a:/b:rw", want: Volume{Source: "/a", Target: "/b"}},
		{in: "/a:/b:ro,z", want: Volume{Source: "/a", Target: "/b", ReadOnly: true, Options: []string{"z"}}},
		{in: "/with space:/b c", want: Volume{Source: "/with space", Target: "/b c"}},
		{in: "", err: "there is no host path"},
		{in: "/a", err: "there is no host path"},
		{in: "name:/b", err: `host path "name" is not absolute`},
		{in: "./a:/b", err: `host path "./a" is not absolute`},
		{in: "/a:b", err: `container path "b" is not absolute`},
		{in: "/a:/", err: "the container's root"},
		{in: "/a:", err: "both a host path and a container path"},
		{in: "/a:/b:ro:x", err: "it has too many colons"},
		{in: "/a:/b:wo", err: `option "wo" is unknown`},
		{in: "/a:/b:", err: `option "" is unknown`},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseVolume(tt.in)
			if tt.err != "" {
				wantInvalid(t, err, tt.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParsePullPolicy(t *testing.T) {
	for in, want := range map[string]PullPolicy{"": PullMissing, "missing": PullMissing, "always": PullAlways, "never": PullNever} {
		if got, err := ParsePullPolicy(in); err != nil || got != want {
			t.Errorf("policy %q is %q, error %v", in, got, err)
		}
	}
	_, err := ParsePullPolicy("sometimes")
	wantInvalid(t, err, "one of always, missing and never")
}

// What can be parsed is usable, and the engine's form of it parses to the same.
func FuzzParseVolume(f *testing.F) {
	for _, seed := range []string{"/a:/b", "/a:/b:ro", "/a:/b:ro,z", "C:\\a:/b", "a:b:c:d", ":", "/a:/b:,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		volume, err := ParseVolume(s)
		if err != nil {
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if err := (Spec{Slug: "demo", Volumes: []Volume{volume}}).Check(); err != nil {
			t.Fatal(err)
		}
		again, err := ParseVolume(volume.bind())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(volume, again, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzParsePort(f *testing.F) {
	for _, seed := range []string{"80", "53/udp", "127.0.0.1:8080:80", "[::1]::80", "1-3", "0:80", "::", "70000", "1:2:3:4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 100 {
			return // ranges of many ports take their time
		}
		ports, err := ParsePort(s)
		if err != nil {
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if len(ports) == 0 {
			t.Fatal("no port and no error")
		}
		if err := (Spec{Slug: "demo", Ports: ports}).Check(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseContainerPort(f *testing.F) {
	for _, seed := range []string{"80", "53/udp", "80/", "/", "0", "65536", "+1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		port, err := ParseContainerPort(s)
		if err != nil {
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		again, err := ParseContainerPort(port.Key())
		if err != nil || again != port {
			t.Errorf("%v parses to %v, error %v", port, again, err)
		}
	})
}

func FuzzCheckSlug(f *testing.F) {
	for _, seed := range []string{"demo", "", "-x", "../x", "ü", "a\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		usable := len(s) >= 1 && len(s) <= 63 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == "" && !strings.ContainsAny(s[:1], "_.-")
		for i := range s {
			usable = usable && s[i] < 0x80 && strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-", rune(s[i]))
		}
		if err := CheckSlug(s); (err == nil) != usable {
			t.Errorf("slug %q: %v", s, err)
		}
	})
}
