package bundle

import (
	"net/netip"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
)

func noEnv(string) (string, bool) { return "", false }

func mustRequest(t testing.TB, spec Spec, labels map[string]string, lookup func(string) (string, bool)) request {
	t.Helper()
	r, err := newRequest(spec, memengine.NewImage("first", labels, false), lookup)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestResolveEnv(t *testing.T) {
	caller := map[string]string{"TOKEN": "from the caller", "EMPTY": ""}
	lookup := func(name string) (string, bool) { value, ok := caller[name]; return value, ok }
	tests := []struct {
		name       string
		in         []string
		env, unset []string
	}{
		{"nothing", nil, nil, nil},
		{"values", []string{"A=1", "B=x=y", "C="}, []string{"A=1", "B=x=y", "C="}, nil},
		{"bare", []string{"TOKEN", "EMPTY"}, []string{"TOKEN=from the caller", "EMPTY="}, nil},
		{"bare and missing", []string{"NONE", "A=1"}, []string{"NONE", "A=1"}, []string{"NONE"}},
		{"the last of a name counts", []string{"A=1", "B=2", "A=3"}, []string{"B=2", "A=3"}, nil},
		{"bare after a value", []string{"TOKEN=1", "TOKEN"}, []string{"TOKEN=from the caller"}, nil},
		{"a value after bare and missing", []string{"NONE", "NONE=1"}, []string{"NONE=1"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env, unset := resolveEnv(tt.in, lookup)
			if diff := cmp.Diff(tt.env, env); diff != "" {
				t.Errorf("environment: %s", diff)
			}
			if diff := cmp.Diff(tt.unset, unset); diff != "" {
				t.Errorf("unset: %s", diff)
			}
		})
	}
}

// What the engine is asked for is what docker run asks for with the reference tool's
// arguments:
//
//	docker run --name bot-bottle-sidecars-demo --detach --rm
//	  --network bot-bottle-bundle-demo --ip 10.1.2.2
//	  -e BOT_BOTTLE_SIDECAR_DAEMONS=egress,pipelock -e MODE=strict -e TOKEN
//	  -v /etc/ca:/ca:ro -v /var/x:/x
//	  -p 127.0.0.16::3128 -p 127.0.0.16::9000
//	  example/bundle:1
func TestContainerRequestIsTheReferenceTools(t *testing.T) {
	spec := Spec{
		Slug:  "demo",
		Image: "example/bundle:1",
		Env:   []string{"MODE=strict", "TOKEN"},
		Volumes: []Volume{
			{Source: "/etc/ca", Target: "/ca", ReadOnly: true},
			{Source: "/var/x", Target: "/x"},
		},
		Ports:  []Port{{ContainerPort: 3128}, {ContainerPort: 9000}},
		HostIP: netip.MustParseAddr("127.0.0.16"),
	}
	lookup := func(name string) (string, bool) { return "hush", name == "TOKEN" }
	r := mustRequest(t, spec, nil, lookup)
	config, host, networking := r.container(netip.MustParseAddr("10.1.2.2"), r.HostIP, "1.41")

	wantConfig := &container.Config{
		Image:        "example/bundle:1",
		Env:          []string{"BOT_BOTTLE_SIDECAR_DAEMONS=egress,pipelock", "MODE=strict", "TOKEN=hush"},
		ExposedPorts: nat.PortSet{"3128/tcp": {}, "9000/tcp": {}},
	}
	wantHost := &container.HostConfig{
		AutoRemove:    true,
		NetworkMode:   "bot-bottle-bundle-demo",
		RestartPolicy: container.RestartPolicy{Name: "no"},
		Binds:         []string{"/etc/ca:/ca:ro", "/var/x:/x"},
		PortBindings:  nat.PortMap{"3128/tcp": {{HostIP: "127.0.0.16"}}, "9000/tcp": {{HostIP: "127.0.0.16"}}},
	}
	wantNetworking := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
		"bot-bottle-bundle-demo": {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: "10.1.2.2"}},
	}}
	if diff := cmp.Diff(wantConfig, config, cmpopts.IgnoreFields(container.Config{}, "Labels")); diff != "" {
		t.Errorf("config: %s", diff)
	}
	if diff := cmp.Diff(wantHost, host, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("host config: %s", diff)
	}
	if diff := cmp.Diff(wantNetworking, networking); diff != "" {
		t.Errorf("networking: %s", diff)
	}
	wantLabels := map[string]string{LabelSlug: "demo", LabelSpec: r.digest(), LabelImageID: r.imageID, LabelHostIP: "127.0.0.16"}
	if diff := cmp.Diff(wantLabels, config.Labels); diff != "" {
		t.Errorf("labels: %s", diff)
	}
}

func TestImageLabels(t *testing.T) {
	labels := map[string]string{LabelDaemons: "egress, supervise", LabelPorts: "3128/tcp,53/udp"}
	tests := []struct {
		name    string
		spec    Spec
		labels  map[string]string
		daemons []string
		ports   []string
	}{
		{"an image without labels has the reference tool's daemons and no ports", Spec{}, nil, []string{"egress", "pipelock"}, nil},
		{"labels count when the spec says nothing", Spec{}, labels, []string{"egress", "supervise"}, []string{"3128/tcp", "53/udp"}},
		{"the spec counts", Spec{Daemons: []string{"one"}, Ports: []Port{{ContainerPort: 1}}}, labels, []string{"one"}, []string{"1/tcp"}},
		{"no ports at all", Spec{Ports: []Port{}}, labels, []string{"egress", "supervise"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := mustRequest(t, tt.spec, tt.labels, noEnv)
			var ports []string
			for _, p := range r.ports {
				ports = append(ports, p.Key())
			}
			if diff := cmp.Diff(tt.daemons, r.daemons); diff != "" {
				t.Errorf("daemons: %s", diff)
			}
			if diff := cmp.Diff(tt.ports, ports); diff != "" {
				t.Errorf("ports: %s", diff)
			}
		})
	}
	t.Run("a label that is no port", func(t *testing.T) {
		_, err := newRequest(Spec{Slug: "demo"}, memengine.NewImage("bad", map[string]string{LabelPorts: "80,http"}, false), noEnv)
		if errorClass(err) != "conflict" {
			t.Errorf("error is %v, want a conflict", err)
		}
	})
}

// Values of the environment have no influence on the digest, which is a label that anybody
// can read; they are compared with the container itself.
func TestDigestKeepsValuesOut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.StringMatching(`[A-Z]{1,8}`).Draw(rt, "name")
		one, other := rapid.String().Draw(rt, "one"), rapid.String().Draw(rt, "other")
		digests := map[string]bool{}
		for _, value := range []string{one, other} {
			r := mustRequest(t, Spec{Slug: "demo", Env: []string{name + "=" + value}}, nil, noEnv)
			digests[r.digest()] = true
			bare := mustRequest(t, Spec{Slug: "demo", Env: []string{name}}, nil, func(string) (string, bool) { return value, true })
			digests[bare.digest()] = true
		}
		if len(digests) != 1 {
			rt.Errorf("%d digests of two values", len(digests))
		}
	})
}

// Everything else of a spec has.
func TestDigestTellsSpecsApart(t *testing.T) {
	yes := true
	changes := map[string]func(*Spec){
		"nothing":         func(*Spec) {},
		"image":           func(s *Spec) { s.Image = "other:1" },
		"name":            func(s *Spec) { s.Env = []string{"B=1"} },
		"more":            func(s *Spec) { s.Env = []string{"A=1", "B=1"} },
		"unset":           func(s *Spec) { s.Env = []string{"A"} },
		"source":          func(s *Spec) { s.Volumes = []Volume{{Source: "/x", Target: "/t"}} },
		"target":          func(s *Spec) { s.Volumes = []Volume{{Source: "/s", Target: "/x"}} },
		"read-only":       func(s *Spec) { s.Volumes = []Volume{{Source: "/s", Target: "/t", ReadOnly: true}} },
		"options":         func(s *Spec) { s.Volumes = []Volume{{Source: "/s", Target: "/t", Options: []string{"z"}}} },
		"container port":  func(s *Spec) { s.Ports = []Port{{ContainerPort: 81}} },
		"protocol":        func(s *Spec) { s.Ports = []Port{{ContainerPort: 80, Protocol: "udp"}} },
		"host port":       func(s *Spec) { s.Ports = []Port{{ContainerPort: 80, HostPort: 8080}} },
		"host port range": func(s *Spec) { s.Ports = []Port{{ContainerPort: 80, HostPort: 8080, HostPortEnd: 8081}} },
		"port's host IP":  func(s *Spec) { s.Ports = []Port{{ContainerPort: 80, HostIP: netip.MustParseAddr("127.0.0.3")}} },
		"no ports":        func(s *Spec) { s.Ports = []Port{} },
		"host IP":         func(s *Spec) { s.HostIP = netip.MustParseAddr("127.0.0.2") },
		"host IP auto":    func(s *Spec) { s.HostIPAuto = true },
		"user":            func(s *Spec) { s.Isolation.User = "1000" },
		"read-only root":  func(s *Spec) { s.Isolation.ReadOnly = &yes },
		"memory":          func(s *Spec) { s.Isolation.Memory = 1 << 20 },
		"capability":      func(s *Spec) { s.Isolation.CapAdd = []string{"NET_ADMIN"} },
		"restart":         func(s *Spec) { s.Isolation.Restart.Name = container.RestartPolicyAlways },
	}
	seen := map[string]string{}
	for change, apply := range changes {
		spec := Spec{Slug: "demo", Image: "some:1", Env: []string{"A=1"}, Volumes: []Volume{{Source: "/s", Target: "/t"}}, Ports: []Port{{ContainerPort: 80}}}
		apply(&spec)
		digest := mustRequest(t, spec, nil, noEnv).digest()
		if other, ok := seen[digest]; ok {
			t.Errorf("%s and %s have one digest", change, other)
		}
		seen[digest] = change
	}
	// Daemons are a variable's value, which is compared with the container itself, and
	// addresses are compared with its endpoint.
	one := mustRequest(t, Spec{Slug: "demo", Daemons: []string{"a"}}, nil, noEnv)
	other := mustRequest(t, Spec{Slug: "demo", Daemons: []string{"b"}, Address: netip.MustParseAddr("10.1.2.3")}, nil, noEnv)
	if one.digest() != other.digest() {
		t.Error("daemons or addresses are in the digest")
	}
}

// A digest is a label of containers that outlive this program, so that its way of being
// made must not change between releases.
func TestDigestIsStable(t *testing.T) {
	spec := Spec{Slug: "demo", Image: "some:1", Env: []string{"A=1", "B"}, Volumes: []Volume{{Source: "/s", Target: "/t", ReadOnly: true}}, Ports: []Port{{ContainerPort: 80}, {ContainerPort: 53, Protocol: "udp"}}}
	const want = "sha256:87fa7f51e9040f82c2197c863caf84d6d4d7f3a23b5872d158daf26fa6b57db9"
	if got := mustRequest(t, spec, nil, noEnv).digest(); got != want {
		t.Errorf("digest is %s, want %s", got, want)
	}
}
