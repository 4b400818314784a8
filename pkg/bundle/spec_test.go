package bundle

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestSpecCheck(t *testing.T) {
	subnet := netip.MustParsePrefix("10.1.2.0/24")
	address := netip.MustParseAddr
	tests := []struct {
		name string
		spec Spec
		want string // part of the error; "" for a usable spec
	}{
		{"nothing but a slug", Spec{}, ""},
		{"everything", Spec{
			Daemons: []string{"egress"}, Env: []string{"A=b", "C"}, Volumes: []Volume{{Source: "/a", Target: "/b"}},
			Ports: []Port{{ContainerPort: 80}}, HostIP: address("127.0.0.9"), Subnet: subnet,
			Gateway: address("10.1.2.254"), Address: address("10.1.2.9"),
		}, ""},
		{"empty daemon", Spec{Daemons: []string{""}}, `invalid daemon ""`},
		{"daemon with a comma", Spec{Daemons: []string{"a,b"}}, `invalid daemon "a,b"`},
		{"variable without a name", Spec{Env: []string{"=hush-hush"}}, "the name before '=' is empty"},
		{"variable with a NUL", Spec{Env: []string{"TOKEN=hush\x00hush"}}, `invalid environment variable "TOKEN": it contains a NUL byte`},
		{"volume without a source", Spec{Volumes: []Volume{{Target: "/b"}}}, "both a host path and a container path are needed"},
		{"volume at the root", Spec{Volumes: []Volume{{Source: "/a", Target: "/.."}}}, "the container's root can't be a mount point"},
		{"relative target", Spec{Volumes: []Volume{{Source: "/a", Target: "b"}}}, `container path "b" is not absolute`},
		{"port 0", Spec{Ports: []Port{{}}}, "a container port is a number from 1 to 65535"},
		{"protocol", Spec{Ports: []Port{{ContainerPort: 80, Protocol: "icmp"}}}, "the protocol is one of tcp, udp and sctp"},
		{"backward range", Spec{Ports: []Port{{ContainerPort: 80, HostPort: 9, HostPortEnd: 8}}}, "host port range 9-8 runs backwards"},
		{"two host addresses", Spec{HostIP: address("127.0.0.9"), HostIPAuto: true}, "it excludes an address chosen from the slug"},
		{"subnet with host bits", Spec{Subnet: netip.MustParsePrefix("10.1.2.3/24")}, "10.1.2.3/24"},
		{"subnet too small", Spec{Subnet: netip.MustParsePrefix("10.1.2.0/30")}, "10.1.2.0/30"},
		{"IPv6 subnet", Spec{Subnet: netip.MustParsePrefix("fd00::/64")}, "fd00::/64"},
		{"address outside", Spec{Subnet: subnet, Address: address("10.1.3.2")}, `invalid IP address "10.1.3.2": it is outside of subnet 10.1.2.0/24`},
		{"address of the network", Spec{Subnet: subnet, Address: address("10.1.2.0")}, "it is the address of network 10.1.2.0/24 itself"},
		{"broadcast address", Spec{Subnet: subnet, Address: address("10.1.2.255")}, "it is the broadcast address"},
		{"address of the gateway", Spec{Subnet: subnet, Address: address("10.1.2.1")}, "it is the gateway's"},
		{"gateway outside", Spec{Subnet: subnet, Gateway: address("10.1.3.1")}, `invalid gateway "10.1.3.1": it is outside`},
		{"memory", Spec{Isolation: Isolation{Memory: -1}}, "limited to a positive amount"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.spec.Slug = "demo"
			err := tt.spec.Check()
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error is %v, want %q in it", err, tt.want)
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("the error tells a variable's value: %v", err)
			}
			if !errdefs.IsInvalidArgument(err) && !strings.Contains(tt.name, "subnet") {
				t.Errorf("%v is no invalid argument", err)
			}
		})
	}
}
