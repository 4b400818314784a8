package bundle

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
)

func TestPorts(t *testing.T) {
	address := netip.MustParseAddr
	spec := Spec{
		Slug:   "demo",
		HostIP: address("127.0.0.16"),
		Ports: []Port{
			{ContainerPort: 3128, HostPort: 54321},
			{ContainerPort: 53, Protocol: "udp", HostPort: 5353},
			{ContainerPort: 3128, HostPort: 6000, HostIP: address("::1")},
		},
	}
	inWorld(t, memengine.Docker29, func(w *world) {
		w.up(spec)
		w.run("bot-bottle-sidecars-foreign", "default")
		tests := []struct {
			name   string
			slug   string
			port   Port // the zero value for all
			hostIP netip.Addr
			want   []string
			err    string
		}{
			{name: "all on the bottle's address", slug: "demo", want: []string{"127.0.0.16:5353->53/udp", "127.0.0.16:54321->3128/tcp"}},
			{name: "one", slug: "demo", port: Port{ContainerPort: 3128}, want: []string{"127.0.0.16:54321->3128/tcp"}},
			{name: "one of UDP", slug: "demo", port: Port{ContainerPort: 53, Protocol: "udp"}, want: []string{"127.0.0.16:5353->53/udp"}},
			{name: "IPv6", slug: "demo", port: Port{ContainerPort: 3128}, hostIP: address("::1"), want: []string{"[::1]:6000->3128/tcp"}},
			{name: "other protocol", slug: "demo", port: Port{ContainerPort: 53}, err: "container bot-bottle-sidecars-demo: no public port 53/tcp on host address 127.0.0.16: " +
				"found 127.0.0.16:5353->53/udp, 127.0.0.16:54321->3128/tcp, [::1]:6000->3128/tcp"},
			{name: "other address", slug: "demo", hostIP: address("127.0.0.1"), err: "container bot-bottle-sidecars-demo: no public port on host address 127.0.0.1: " +
				"found 127.0.0.16:5353->53/udp, 127.0.0.16:54321->3128/tcp, [::1]:6000->3128/tcp"},
			{name: "not up", slug: "other", err: "bottle other is not up: no such container: bot-bottle-sidecars-other"},
			{name: "foreign", slug: "foreign", err: "container bot-bottle-sidecars-foreign exists and is no bundle: remove or rename it (docker rename bot-bottle-sidecars-foreign NEW-NAME), or use another slug"},
			{name: "bad slug", slug: "-x", err: `invalid slug "-x": character 1 is '-': a slug starts with a letter or a digit`},
			{name: "bad port", slug: "demo", port: Port{ContainerPort: 80, Protocol: "icmp"}, err: `invalid port "80/icmp": the protocol is one of tcp, udp and sctp`},
		}
		for _, tt := range tests {
			var ports []PublishedPort
			var err error
			if tt.port == (Port{}) {
				ports, err = w.life.Ports(w.t.Context(), tt.slug, tt.hostIP)
			} else {
				var port PublishedPort
				if port, err = w.life.HostPort(w.t.Context(), tt.slug, tt.port, tt.hostIP); err == nil {
					ports = []PublishedPort{port}
				}
			}
			var got []string
			for _, p := range ports {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				w.t.Errorf("%s: %s", tt.name, diff)
			}
			if message := errorText(err); message != tt.err {
				w.t.Errorf("%s: error is %q, want %q", tt.name, message, tt.err)
			}
		}
	})
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPortsOfABundleThatPublishesNone(t *testing.T) {
	inWorld(t, memengine.Docker29, func(w *world) {
		w.up(Spec{Slug: "demo", Ports: []Port{}})
		_, err := w.life.Ports(w.t.Context(), "demo", netip.Addr{})
		var none *NotPublishedError
		if !errors.As(err, &none) || err.Error() != "container bot-bottle-sidecars-demo: no public port on host address 127.0.0.1: nothing is published" {
			w.t.Errorf("error is %v", err)
		}
	})
}

// What an engine says that is no port is left out.
func TestPortList(t *testing.T) {
	got := portList(nat.PortMap{
		"80/tcp":  {{HostIP: "127.0.0.1", HostPort: "8080"}, {HostIP: "", HostPort: "1"}, {HostIP: "127.0.0.1", HostPort: "many"}, {HostIP: "127.0.0.1", HostPort: "65536"}},
		"443/tcp": nil,
	})
	want := []PublishedPort{{HostIP: loopback, HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Error(diff)
	}
}
