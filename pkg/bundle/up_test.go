package bundle

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

func TestUpAndDown(t *testing.T) {
	onReleases(t, func(w *world) {
		spec := Spec{Slug: "demo", Ports: []Port{{ContainerPort: 3128}}, Pool: mustPool(w.t, "10.201.0.0/16,size=24")}
		up := w.up(spec)
		home, err := spec.Pool.Allocate("demo", nil, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		found := w.inspect("bot-bottle-sidecars-demo")
		want := &Bundle{
			Slug: "demo", Container: "bot-bottle-sidecars-demo", ContainerID: found.ID,
			Network: "bot-bottle-bundle-demo", NetworkID: up.NetworkID, Image: DefaultImage, ImageID: found.Image,
			Subnet: home, Gateway: netalloc.Gateway(home), Address: netalloc.Bundle(home), HostIP: loopback,
			Daemons: []string{"egress", "pipelock"},
			Ports:   []PublishedPort{{HostIP: loopback, HostPort: 32768, ContainerPort: 3128, Protocol: "tcp"}},
		}
		if diff := cmp.Diff(want, up, byValue); diff != "" {
			w.t.Error(diff)
		}
		w.down("demo")
		w.down("demo")
		if left := w.objects(); len(left) > 0 {
			w.t.Errorf("down leaves %v", left)
		}
	})
}

// An up that has nothing to do looks once, which is three requests.
func TestUpTwiceChangesNothing(t *testing.T) {
	onReleases(t, func(w *world) {
		spec := Spec{Slug: "demo", Env: []string{"A=1", "B"}, Ports: []Port{{ContainerPort: 80}}}
		first, before := w.up(spec), w.client.Counts()
		second, after := w.up(spec), w.client.Counts()
		if diff := cmp.Diff(first, second, byValue); diff != "" {
			w.t.Error(diff)
		}
		for method, n := range before {
			after[method] -= n
			if after[method] == 0 {
				delete(after, method)
			}
		}
		if diff := cmp.Diff(map[string]int{"ContainerInspect": 1, "NetworkList": 1, "ImageInspect": 1}, after); diff != "" {
			w.t.Error(diff)
		}
	})
}

// A bundle that the reference tool started is adopted: it has no labels.
func TestUpAdoptsTheReferenceTools(t *testing.T) {
	spec := Spec{Slug: "demo", Env: []string{"MODE=strict"}, Volumes: []Volume{{Source: "/a", Target: "/b", ReadOnly: true}}, Ports: []Port{{ContainerPort: 3128}}}
	tests := []struct {
		name   string
		modify func(*container.Config, *container.HostConfig)
		kept   bool
	}{
		{"as asked for", func(*container.Config, *container.HostConfig) {}, true},
		{"other value", func(c *container.Config, _ *container.HostConfig) { c.Env[1] = "MODE=lax" }, false},
		{"other daemons", func(c *container.Config, _ *container.HostConfig) { c.Env[0] = DaemonsVariable + "=egress" }, false},
		{"other bind", func(_ *container.Config, h *container.HostConfig) { h.Binds = []string{"/a:/b"} }, false},
		{"other port", func(_ *container.Config, h *container.HostConfig) {
			h.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1"}}}
		}, false},
		{"other host address", func(_ *container.Config, h *container.HostConfig) {
			h.PortBindings = nat.PortMap{"3128/tcp": {{HostIP: "127.0.0.2"}}}
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, memengine.Docker20, func(w *world) {
				networkID := w.createNetwork("bot-bottle-bundle-demo", network.CreateOptions{IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: "10.9.9.0/24", Gateway: "10.9.9.1"}}}})
				config := &container.Config{Image: DefaultImage, Env: []string{DaemonsVariable + "=egress,pipelock", "MODE=strict"}}
				host := &container.HostConfig{
					AutoRemove: true, NetworkMode: "bot-bottle-bundle-demo", Binds: []string{"/a:/b:ro"},
					PortBindings: nat.PortMap{"3128/tcp": {{HostIP: "127.0.0.1"}}},
				}
				tt.modify(config, host)
				networking := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
					"bot-bottle-bundle-demo": {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: "10.9.9.2"}},
				}}
				created, err := w.admin.ContainerCreate(w.t.Context(), config, host, networking, nil, "bot-bottle-sidecars-demo")
				if err != nil {
					w.t.Fatal(err)
				}
				if err := w.admin.ContainerStart(w.t.Context(), created.ID, container.StartOptions{}); err != nil {
					w.t.Fatal(err)
				}
				up := w.up(spec)
				if (up.ContainerID == created.ID) != tt.kept || up.NetworkID != networkID || up.Address.String() != "10.9.9.2" {
					w.t.Errorf("container kept: %v, want %v; %+v", up.ContainerID == created.ID, tt.kept, up)
				}
				w.down("demo")
				if left := w.objects(); len(left) > 0 {
					w.t.Errorf("down leaves %v", left)
				}
			})
		})
	}
}

func TestUpNamesUnsetVariables(t *testing.T) {
	inWorld(t, memengine.Docker29, func(w *world) {
		w.life.LookupEnv = func(name string) (string, bool) { return "hush-hush", name == "TOKEN" }
		w.up(Spec{Slug: "demo", Env: []string{"TOKEN", "MISSING", "OTHER"}})
		want := []string{
			"environment variable MISSING is not set, and so is not set in the bundle",
			"environment variable OTHER is not set, and so is not set in the bundle",
		}
		if diff := cmp.Diff(want, w.warnings()); diff != "" {
			w.t.Error(diff)
		}
		if env := w.inspect("bot-bottle-sidecars-demo").Config.Env; !slices.Contains(env, "TOKEN=hush-hush") {
			w.t.Errorf("environment is %v", env)
		}
	})
}

func TestUpTellsHowABundleDied(t *testing.T) {
	tests := []struct {
		name, script string
		options      UpOptions
		want         DeadError
		text         string
	}{
		{
			name: "at once", script: "print starting;err no such rule;exit 3",
			want: DeadError{ExitCode: 3, Log: []string{"starting", "no such rule"}},
			text: "container bot-bottle-sidecars-demo exited with status 3; its last log lines:\n    starting\n    no such rule",
		},
		{
			name: "without a word", script: "exit 0",
			want: DeadError{Log: []string{}},
			text: "container bot-bottle-sidecars-demo exited with status 0, it logged nothing",
		},
		{
			name: "out of memory", script: "print filling;oom",
			want: DeadError{ExitCode: 137, OOMKilled: true, Log: []string{"filling"}},
			text: "killed for running out of memory",
		},
		{
			name: "few lines", script: "print 1;print 2;print 3;exit 1", options: UpOptions{LogLines: 2},
			want: DeadError{ExitCode: 1, Log: []string{"2", "3"}},
		},
		{
			name: "while it is waited for", script: "print 1;sleep 1s;print 2;exit 4", options: UpOptions{Wait: true},
			want: DeadError{ExitCode: 4, Log: []string{"1", "2"}},
		},
		{
			name: "with control characters", script: "print a\x1b[2Jb\x07;exit 1",
			want: DeadError{ExitCode: 1, Log: []string{"a\uFFFD[2Jb\uFFFD"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onReleases(t, func(w *world) {
				tt.want.Container = "bot-bottle-sidecars-demo"
				_, err := w.life.Up(w.t.Context(), Spec{Slug: "demo", Env: []string{"SCRIPT=" + tt.script}}, tt.options)
				var dead *DeadError
				if !errors.As(err, &dead) {
					w.t.Fatalf("error is %v, want a *DeadError", err)
				}
				if diff := cmp.Diff(&tt.want, dead); diff != "" {
					w.t.Error(diff)
				}
				if !strings.Contains(err.Error(), tt.text) {
					w.t.Errorf("error is %q, want %q in it", err, tt.text)
				}
				time.Sleep(time.Second)
				if left := w.objects(); len(left) > 0 {
					w.t.Errorf("up leaves %v", left)
				}
			})
		})
	}
}

// What a dying bundle logs may hold what it was given to keep.
func TestUpKeepsSecretsOutOfLogs(t *testing.T) {
	secrets := map[string]string{
		"TOKEN":  "s3cr3t-token",
		"LONGER": "s3cr3t-token-and-more",
		"PEM":    "-----BEGIN KEY-----\nMIIBVAIBADANBgkqh\n-----END KEY-----",
		"SHORT":  "1",
	}
	inWorld(t, memengine.Docker29, func(w *world) {
		w.life.LookupEnv = func(name string) (string, bool) { value, ok := secrets[name]; return value, ok }
		_, err := w.life.Up(w.t.Context(), Spec{Slug: "demo", Env: []string{
			"TOKEN", "LONGER", "PEM", "SHORT",
			"SCRIPT=print 1 line;env TOKEN;env LONGER;env PEM;exit 1",
		}}, UpOptions{})
		var dead *DeadError
		if !errors.As(err, &dead) {
			w.t.Fatalf("error is %v, want a *DeadError", err)
		}
		if want := []string{"1 line", "***", "***", "***", "***", "***"}; !slices.Equal(dead.Log, want) {
			w.t.Errorf("log is %q, want %q", dead.Log, want)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		told := fmt.Sprintf("%v %+v", err, w.events)
		for name, value := range secrets {
			for line := range strings.SplitSeq(value, "\n") {
				if len(line) >= shortestSecret && strings.Contains(told, line) {
					w.t.Errorf("the value of %s is told", name)
				}
			}
		}
	})
}

func TestUpWaits(t *testing.T) {
	t.Run("until the bundle is healthy", func(t *testing.T) {
		inWorld(t, memengine.Docker29, func(w *world) {
			w.engine.Tag("checked:1", memengine.NewImage("checked", nil, true))
			up, err := w.life.Up(w.t.Context(), Spec{Slug: "demo", Image: "checked:1", Env: []string{"SCRIPT=sleep 3s;health healthy"}}, UpOptions{Wait: true})
			if err != nil || up.Health != container.Healthy {
				w.t.Errorf("health %+v, error %v", up, err)
			}
		})
	})
	for _, tt := range []struct{ name, script, how, check string }{
		{"no longer than until it is unhealthy", "print why;sleep 1s;health unhealthy", "is unhealthy", "checked: unhealthy"},
		{"no longer than asked for", "print why", "is not healthy after 10s", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, memengine.Docker29, func(w *world) {
				w.engine.Tag("checked:1", memengine.NewImage("checked", nil, true))
				_, err := w.life.Up(w.t.Context(), Spec{Slug: "demo", Image: "checked:1", Env: []string{"SCRIPT=" + tt.script}}, UpOptions{Wait: true, WaitTimeout: 10 * time.Second})
				var unhealthy *UnhealthyError
				if !errors.As(err, &unhealthy) || unhealthy.How != tt.how || unhealthy.Check != tt.check || !slices.Equal(unhealthy.Log, []string{"why"}) {
					w.t.Errorf("error is %#v", err)
				}
				if left := w.objects(); len(left) > 0 {
					w.t.Errorf("up leaves %v", left)
				}
			})
		})
	}
	t.Run("for a bundle without a health check to stay up", func(t *testing.T) {
		inWorld(t, memengine.Docker29, func(w *world) {
			began := time.Now()
			if _, err := w.life.Up(w.t.Context(), Spec{Slug: "demo"}, UpOptions{Wait: true}); err != nil {
				w.t.Fatal(err)
			}
			if took := time.Since(began); took < DefaultStayUp {
				w.t.Errorf("up took %s, want at least %s", took, DefaultStayUp)
			}
		})
	})
}

func TestUpChoosesALoopbackAddress(t *testing.T) {
	onReleases(t, func(w *world) {
		spec := Spec{Slug: "demo", HostIPAuto: true, Ports: []Port{{ContainerPort: 80}}}
		var order []netip.Addr
		for address := range netalloc.LoopbackOrder("demo") {
			if order = append(order, address); len(order) == 2 {
				break
			}
		}
		// Another bottle has the first address already.
		w.up(Spec{Slug: "other", HostIP: order[0]})
		up := w.up(spec)
		if up.HostIP != order[1] || up.Ports[0].HostIP != order[1] {
			w.t.Errorf("host address is %s, ports are %v, want %s", up.HostIP, up.Ports, order[1])
		}
		// It stays when the first becomes free.
		w.down("other")
		if again := w.up(spec); again.ContainerID != up.ContainerID {
			w.t.Error("the bundle was replaced")
		}
	})
}

func TestUpLeavesNothingOfAFailure(t *testing.T) {
	tests := []struct {
		name string
		spec Spec
		make func(w *world)
		want string
	}{
		{"missing image", Spec{Image: "missing:1"}, nil, "pull access denied for missing"},
		{"missing local image", Spec{Image: "bot-bottle-sidecars:dev"}, nil, "is local and is never pulled; build it with"},
		{"pool used up", Spec{Pool: pool30(), Env: []string{"A=1"}}, func(w *world) {
			w.createNetwork("lan", bottleNetwork("", "10.201.0.0/16", ""))
		}, "no free /24 subnet"},
		{"subnet in use", Spec{Subnet: netip.MustParsePrefix("10.201.7.0/24")}, func(w *world) {
			w.createNetwork("lan", bottleNetwork("", "10.201.0.0/16", ""))
		}, "subnet 10.201.7.0/24 overlaps network lan (10.201.0.0/16): choose another subnet"},
		{"host port in use", Spec{Ports: []Port{{ContainerPort: 80, HostPort: 8080}}}, func(w *world) {
			w.up(Spec{Slug: "other", Ports: []Port{{ContainerPort: 80, HostPort: 8080}}})
		}, "port is already allocated"},
		{"foreign container", Spec{}, func(w *world) { w.run("bot-bottle-sidecars-demo", "default") },
			"container bot-bottle-sidecars-demo exists and is no bundle: remove or rename it"},
		{"image label that is no port", Spec{Image: "bad:1"}, func(w *world) {
			w.engine.Tag("bad:1", memengine.NewImage("bad", map[string]string{LabelPorts: "http"}, false))
		}, "image bad:1 has a label bot-bottle.ports=http"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onReleases(t, func(w *world) {
				if tt.make != nil {
					tt.make(w)
				}
				before := w.objects()
				tt.spec.Slug = "demo"
				_, err := w.life.Up(w.t.Context(), tt.spec, UpOptions{})
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					w.t.Errorf("error is %v, want %q in it", err, tt.want)
				}
				time.Sleep(time.Second)
				if diff := cmp.Diff(before, w.objects()); diff != "" {
					w.t.Errorf("up changed: %s", diff)
				}
			})
		})
	}
}

func pool30() netalloc.Pool {
	pool, err := netalloc.ParsePool("10.201.0.0/22,size=24")
	if err != nil {
		panic(err)
	}
	return pool
}

func TestUpChecksBindSources(t *testing.T) {
	inWorld(t, memengine.Docker29, func(w *world) {
		missing := filepath.Join(w.t.TempDir(), "missing")
		spec := Spec{Slug: "demo", Subnet: netip.MustParsePrefix("10.201.1.0/24"), Volumes: []Volume{{Source: missing, Target: "/t"}}}
		w.life.Local = true
		_, err := w.life.Up(w.t.Context(), spec, UpOptions{})
		wantInvalid(w.t, err, "bind source path does not exist: "+missing)
		if made := w.client.Calls(); made != 0 {
			w.t.Errorf("%d requests were made", made)
		}
		// What another machine has can't be seen from here.
		w.life.Local = false
		w.up(spec)
	})
}
