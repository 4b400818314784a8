package bundle

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-connections/nat"
)

// behaviours lists what engines do.
var behaviours = []struct {
	name string
	do   func(b *bench)
}{
	{"dynamic addresses come from the range", func(b *bench) {
		for i, want := range []string{"10.201.1.128", "10.201.1.129"} {
			id := b.run(fmt.Sprint("guest", i), "", "")
			if got := b.settings(id).IPAddress; got != want {
				b.t.Errorf("dynamic address %d is %s, want %s", i, got, want)
			}
		}
	}},
	{"a network's list and inspection tell its addresses and who is attached", func(b *bench) {
		id := b.run("a", "10.201.1.2", "")
		list, err := b.engine.NetworkList(b.ctx, network.ListOptions{})
		b.must(err)
		found, err := b.engine.NetworkInspect(b.ctx, b.netID, network.InspectOptions{})
		b.must(err)
		i := slices.IndexFunc(list, func(n network.Summary) bool { return n.ID == b.netID })
		for _, n := range []network.Summary{list[i], found} {
			subnet, gateway := addressing(n)
			if subnet != contractSubnet || gateway != netip.MustParseAddr("10.201.1.1") || n.IPAM.Config[0].IPRange != "10.201.1.128/25" || n.Labels[LabelSlug] != "contract" {
				b.t.Errorf("network is %+v", n)
			}
		}
		if e := found.Containers[id]; e.Name != b.name("a") || e.IPv4Address != "10.201.1.2/24" {
			b.t.Errorf("endpoints are %v", found.Containers)
		}
	}},
	{"a container tells its place before, during and after it runs", func(b *bench) {
		id := b.create("a", "10.201.1.2", "")
		if s := b.settings(id); s.NetworkID != "" || s.IPAddress != "" || pinnedAddress(s) != "10.201.1.2" {
			b.t.Errorf("created: %+v", s)
		}
		b.must(b.start(id))
		if s := b.settings(id); s.NetworkID != b.netID || s.IPAddress != "10.201.1.2" || s.Gateway != "10.201.1.1" {
			b.t.Errorf("running: %+v", s)
		}
		b.must(b.engine.ContainerStop(b.ctx, id, container.StopOptions{}))
		if s := b.settings(id); s.NetworkID != b.netID || s.IPAddress != "" || pinnedAddress(s) != "10.201.1.2" {
			b.t.Errorf("exited: %+v", s)
		}
	}},
	{"a container tells its state", func(b *bench) {
		id := b.create("a", "10.201.1.2", "")
		b.wantState(id, container.StateCreated, false)
		b.must(b.start(id))
		b.wantState(id, container.StateRunning, true)
		b.must(b.engine.ContainerPause(b.ctx, id))
		b.wantState(id, container.StatePaused, true)
		b.must(b.engine.ContainerUnpause(b.ctx, id))
		b.wantState(id, container.StateRunning, true)
		b.must(b.engine.ContainerKill(b.ctx, id, "KILL"))
		b.await(id, container.WaitConditionNotRunning)
		b.wantState(id, container.StateExited, false)
	}},
	{"a failed start leaves a container that never ran, unless it is auto-removed", func(b *bench) {
		b.run("a", "10.201.1.2", "")
		kept := b.create("kept", "10.201.1.2", "")
		if err := b.start(kept); err == nil {
			b.t.Fatal("started at an address in use")
		}
		b.wantState(kept, container.StateCreated, false)
		removed, err := b.tryCreate("removed", "10.201.1.2", "", autoRemove)
		b.must(err)
		if err := b.start(removed); err == nil {
			b.t.Fatal("started at an address in use")
		}
		b.awaitGone(removed)
	}},
	{"a container's environment, labels and image are as asked for", func(b *bench) {
		id, err := b.tryCreate("a", "10.201.1.2", "", func(c *container.Config, host *container.HostConfig) {
			c.Env = []string{"ONE=1", "BARE"}
			c.Labels = map[string]string{LabelSlug: "contract"}
			host.Binds = []string{"/tmp:/t:ro"}
		})
		b.must(err)
		found, err := b.engine.ContainerInspect(b.ctx, id)
		b.must(err)
		image, err := b.engine.ImageInspect(b.ctx, b.image)
		b.must(err)
		if !slices.Contains(found.Config.Env, "ONE=1") || slices.ContainsFunc(found.Config.Env, func(e string) bool { return strings.HasPrefix(e, "BARE=") }) {
			b.t.Errorf("environment is %v", found.Config.Env)
		}
		if found.Config.Labels[LabelSlug] != "contract" || found.Config.Image != b.image || found.Image != image.ID || !slices.Equal(found.HostConfig.Binds, []string{"/tmp:/t:ro"}) {
			b.t.Errorf("container is %+v %+v", found.Config, found.HostConfig)
		}
	}},
	{"published ports are told while the container runs", func(b *bench) {
		id, err := b.tryCreate("a", "10.201.1.2", "", func(c *container.Config, host *container.HostConfig) {
			c.ExposedPorts = nat.PortSet{"80/tcp": {}, "53/udp": {}}
			host.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.77"}}, "53/udp": {{HostIP: "127.0.0.77"}}}
		})
		b.must(err)
		b.must(b.start(id))
		found, err := b.engine.ContainerInspect(b.ctx, id)
		b.must(err)
		ports := publishedPorts(found)
		if len(ports) != 2 || ports[0].Key() != "53/udp" || ports[1].Key() != "80/tcp" || ports[0].HostPort == 0 || ports[0].HostIP.String() != "127.0.0.77" {
			b.t.Errorf("ports are %v", ports)
		}
	}},
	{"an attachment from before the start gets all output, framed, and ends with the container", func(b *bench) {
		id := b.create("a", "10.201.1.2", "print one;err two;print three;exit 3")
		stream, err := b.engine.ContainerAttach(b.ctx, id, container.AttachOptions{Stream: true, Stdout: true, Stderr: true})
		b.must(err)
		defer stream.Close()
		exited, _ := b.engine.ContainerWait(b.ctx, id, container.WaitConditionNextExit)
		b.must(b.start(id))
		var out, errOut bytes.Buffer
		_, err = stdcopy.StdCopy(&out, &errOut, stream.Reader)
		b.must(err)
		if out.String() != "one\nthree\n" || errOut.String() != "two\n" {
			b.t.Errorf("output is %q and %q", out.String(), errOut.String())
		}
		if status := <-exited; status.StatusCode != 3 {
			b.t.Errorf("exit status is %d, want 3", status.StatusCode)
		}
	}},
	{"an attachment with logs replays the output so far", func(b *bench) {
		id := b.run("a", "10.201.1.2", "print one;sleep 500ms;print two;exit 0")
		time.Sleep(200 * time.Millisecond)
		stream, err := b.engine.ContainerAttach(b.ctx, id, container.AttachOptions{Stream: true, Stdout: true, Stderr: true, Logs: true})
		b.must(err)
		defer stream.Close()
		var out bytes.Buffer
		_, err = stdcopy.StdCopy(&out, &out, stream.Reader)
		b.must(err)
		if out.String() != "one\ntwo\n" {
			b.t.Errorf("output is %q", out.String())
		}
	}},
	{"an auto-removed container that exits leaves its exit status and events", func(b *bench) {
		id, err := b.tryCreate("a", "10.201.1.2", "exit 7", autoRemove)
		b.must(err)
		exited, _ := b.engine.ContainerWait(b.ctx, id, container.WaitConditionNextExit)
		b.must(b.start(id))
		if status := <-exited; status.StatusCode != 7 {
			b.t.Errorf("exit status is %d, want 7", status.StatusCode)
		}
		b.awaitGone(id)
		if got, want := b.history(id), []string{"die 7", "destroy"}; !slices.Equal(got, want) {
			b.t.Errorf("events are %v, want %v", got, want)
		}
	}},
	{"a container removed by force leaves the event of its kill", func(b *bench) {
		id, err := b.tryCreate("a", "10.201.1.2", "", autoRemove)
		b.must(err)
		b.must(b.start(id))
		if err := b.remove(id); err != nil && !errdefs.IsConflict(err) {
			b.t.Fatal(err)
		}
		b.awaitGone(id)
		if got, want := b.history(id), []string{"kill", "die 137", "destroy"}; !slices.Equal(got, want) {
			b.t.Errorf("events are %v, want %v", got, want)
		}
	}},
	{"a container killed for want of memory leaves the event of that", func(b *bench) {
		id, err := b.tryCreate("a", "10.201.1.2", "sleep 100ms;oom", func(c *container.Config, host *container.HostConfig) {
			autoRemove(c, host)
			host.Memory, host.MemorySwap = 16<<20, 16<<20
		})
		b.must(err)
		b.must(b.start(id))
		b.awaitGone(id)
		if got, want := b.history(id), []string{"oom", "die 137", "destroy"}; !slices.Equal(got, want) {
			b.t.Errorf("events are %v, want %v", got, want)
		}
	}},
	{"the name of an auto-removed container is free once it is gone", func(b *bench) {
		id, err := b.tryCreate("a", "10.201.1.2", "", autoRemove)
		b.must(err)
		b.must(b.start(id))
		b.must(b.engine.ContainerStop(b.ctx, id, container.StopOptions{}))
		if err := b.remove(id); err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
			b.t.Fatal(err) // a conflict is the removal that is under way
		}
		b.awaitGone(id)
		for attempt := 0; ; attempt++ {
			_, err := b.tryCreate("a", "10.201.1.2", "", nil)
			if err == nil {
				return
			}
			if !errdefs.IsConflict(err) || attempt == 50 {
				b.t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}},
	{"a health check starts, and tells the program's health", func(b *bench) {
		id, err := b.tryCreate("a", "10.201.1.2", "sleep 500ms;health healthy", func(c *container.Config, _ *container.HostConfig) {
			c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "/program", "check"}, Interval: 200 * time.Millisecond, Retries: 100}
		})
		b.must(err)
		b.must(b.start(id))
		found, err := b.engine.ContainerInspect(b.ctx, id)
		b.must(err)
		if health(found) != container.Starting {
			b.t.Errorf("health is %q at first", health(found))
		}
		for attempt := 0; health(found) != container.Healthy; attempt++ {
			if attempt == 100 {
				b.t.Fatalf("health stays %q", health(found))
			}
			time.Sleep(100 * time.Millisecond)
			found, err = b.engine.ContainerInspect(b.ctx, id)
			b.must(err)
		}
	}},
	{"containers and networks are listed by label and by the beginning of their names", func(b *bench) {
		id, err := b.tryCreate("a", "10.201.1.2", "", func(c *container.Config, _ *container.HostConfig) {
			c.Labels = map[string]string{LabelSlug: "contract"}
		})
		b.must(err)
		for _, arg := range []filters.KeyValuePair{filters.Arg("name", "^/"+b.name("a")), filters.Arg("label", LabelSlug)} {
			list, err := b.engine.ContainerList(b.ctx, container.ListOptions{All: true, Filters: filters.NewArgs(arg)})
			b.must(err)
			if !slices.ContainsFunc(list, func(c container.Summary) bool { return c.ID == id && c.State == container.StateCreated }) {
				b.t.Errorf("containers with %s=%s are %v", arg.Key, arg.Value, list)
			}
		}
		list, err := b.engine.NetworkList(b.ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("name", b.net))})
		b.must(err)
		if len(list) != 1 || list[0].ID != b.netID {
			b.t.Errorf("networks are %v", list)
		}
	}},
}

func testBehaviours(t *testing.T, onBench func(*testing.T, func(*bench))) {
	for _, behaviour := range behaviours {
		t.Run(behaviour.name, func(t *testing.T) { onBench(t, behaviour.do) })
	}
}
