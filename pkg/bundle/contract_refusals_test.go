package bundle

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
)

// refusals lists what engines refuse. The answer is its class and a part of its text;
// "ok" is no refusal. NAME stands for the network's name and ID for its ID.
var refusals = []struct {
	name                         string
	do                           func(b *bench) error
	docker20, docker28, docker29 string
}{
	{
		"network of a name that exists", func(b *bench) error { return b.createNetwork(b.net, "10.201.2.0/24") },
		"conflict: network with name NAME already exists", "", "",
	},
	{
		"network of a subnet in use", func(b *bench) error { return b.createNetwork(b.net+"-2", "10.201.1.0/24") },
		"denied: Pool overlaps with other one on this address space", "", "",
	},
	{
		"network around a subnet in use", func(b *bench) error { return b.createNetwork(b.net+"-2", "10.201.0.0/22") },
		"denied: Pool overlaps with other one on this address space", "", "",
	},
	{
		"network inside of a subnet in use", func(b *bench) error { return b.createNetwork(b.net+"-2", "10.201.1.64/26") },
		"denied: Pool overlaps with other one on this address space", "", "",
	},
	{
		"inspection of a missing network", func(b *bench) error {
			_, err := b.engine.NetworkInspect(b.ctx, b.net+"-2", network.InspectOptions{})
			return err
		},
		"not found: network NAME-2 not found", "", "",
	},
	{
		"removal of a missing network", func(b *bench) error { return b.engine.NetworkRemove(b.ctx, b.net+"-2") },
		"not found: network NAME-2 not found", "", "",
	},
	{
		"removal of a network in use", func(b *bench) error {
			b.run("a", "10.201.1.2", "")
			return b.engine.NetworkRemove(b.ctx, b.netID)
		},
		"denied: network NAME id ID has active endpoints", "denied: error while removing network: network NAME", "denied: has active endpoints (name:",
	},
	{
		"removal of a network with a container that never ran", func(b *bench) error {
			b.create("a", "10.201.1.2", "")
			return b.engine.NetworkRemove(b.ctx, b.netID)
		}, "ok", "", "",
	},
	{
		"removal of a network with a container that has exited", func(b *bench) error {
			b.run("a", "10.201.1.2", "")
			b.must(b.engine.ContainerStop(b.ctx, b.name("a"), container.StopOptions{}))
			return b.engine.NetworkRemove(b.ctx, b.netID)
		}, "ok", "", "",
	},
	{
		"disconnection by force of an endpoint that is not there", func(b *bench) error {
			return b.engine.NetworkDisconnect(b.ctx, b.netID, b.name("a"), true)
		}, "not found: endpoint ", "", "",
	},
	{
		"inspection of a missing container", func(b *bench) error {
			_, err := b.engine.ContainerInspect(b.ctx, b.name("a"))
			return err
		}, "not found: No such container: ", "", "",
	},
	{
		"start of a missing container", func(b *bench) error { return b.start(b.name("a")) },
		"not found: No such container: ", "", "",
	},
	{
		"stop of a missing container", func(b *bench) error {
			return b.engine.ContainerStop(b.ctx, b.name("a"), container.StopOptions{})
		}, "not found: No such container: ", "", "",
	},
	{
		"removal of a missing container", func(b *bench) error { return b.remove(b.name("a")) },
		"not found: No such container: ", "", "",
	},
	{
		"wait for a missing container", func(b *bench) error {
			_, failed := b.engine.ContainerWait(b.ctx, b.name("a"), container.WaitConditionRemoved)
			return <-failed
		}, "not found: No such container: ", "", "",
	},
	{
		"attachment to a missing container", func(b *bench) error {
			_, err := b.engine.ContainerAttach(b.ctx, b.name("a"), container.AttachOptions{Stream: true, Stdout: true})
			return err
		}, "other: unable to upgrade to tcp, received 404", "", "",
	},
	{
		"container of a name in use", func(b *bench) error {
			b.create("a", "10.201.1.2", "")
			_, err := b.tryCreate("a", "10.201.1.2", "", nil)
			return err
		}, "conflict: Conflict. The container name \"/", "", "",
	},
	{
		"container of a missing image", func(b *bench) error {
			_, err := b.tryCreate("a", "", "", func(c *container.Config, _ *container.HostConfig) { c.Image = contractPrefix + "missing:1" })
			return err
		}, "not found: No such image: " + contractPrefix + "missing:1", "", "",
	},
	{
		"container of a missing network", func(b *bench) error {
			b.must(b.engine.NetworkRemove(b.ctx, b.netID))
			_, err := b.tryCreate("a", "10.201.1.2", "", nil)
			return err
		}, "ok", "", "",
	},
	{
		"start with a missing network", func(b *bench) error {
			b.must(b.engine.NetworkRemove(b.ctx, b.netID))
			return b.start(b.create("a", "10.201.1.2", ""))
		}, "not found: network NAME not found", "", "",
	},
	{
		"start once the missing network is there", func(b *bench) error {
			b.must(b.engine.NetworkRemove(b.ctx, b.netID))
			id := b.create("a", "10.201.1.2", "")
			b.must(b.createNetwork(b.net, contractSubnet.String()))
			return b.start(id)
		}, "ok", "", "",
	},
	{
		"second start with the network made anew", func(b *bench) error {
			id := b.run("a", "10.201.1.2", "")
			b.must(b.engine.ContainerStop(b.ctx, id, container.StopOptions{}))
			b.must(b.engine.NetworkRemove(b.ctx, b.netID))
			b.must(b.createNetwork(b.net, contractSubnet.String()))
			return b.start(id)
		}, "not found: network ID not found", "", "",
	},
	{
		"start at an address in use", func(b *bench) error {
			b.run("a", "10.201.1.2", "")
			return b.start(b.create("b", "10.201.1.2", ""))
		}, "denied: Address already in use", "", "",
	},
	{
		"start at the gateway's address", func(b *bench) error { return b.start(b.create("a", "10.201.1.1", "")) },
		"denied: Address already in use", "", "",
	},
	{
		"address outside of the subnet", func(b *bench) error {
			_, err := b.tryRun("a", "10.201.9.2", "")
			return err
		},
		"internal: It does not belong to any of this network's subnets",
		"invalid: no configured subnet or ip-range contain the IP address 10.201.9.2",
		"invalid: no configured subnet contains IP address 10.201.9.2",
	},
	{
		"start at an address outside of the subnet of a network that came later", func(b *bench) error {
			b.must(b.engine.NetworkRemove(b.ctx, b.netID))
			id := b.create("a", "10.201.9.2", "")
			b.must(b.createNetwork(b.net, contractSubnet.String()))
			return b.start(id)
		},
		"internal: It does not belong to any of this network's subnets",
		"invalid: no configured subnet or ip-range contain the IP address 10.201.9.2",
		"invalid: no configured subnet contains IP address 10.201.9.2",
	},
	{
		"address in a subnet that the engine has chosen", func(b *bench) error {
			b.must(b.engine.NetworkRemove(b.ctx, b.netID))
			created, err := b.engine.NetworkCreate(b.ctx, b.net, network.CreateOptions{Driver: "bridge"})
			b.must(err)
			found, err := b.engine.NetworkInspect(b.ctx, created.ID, network.InspectOptions{})
			b.must(err)
			prefix := netip.MustParsePrefix(found.IPAM.Config[0].Subnet)
			_, err = b.tryRun("a", prefix.Addr().Next().Next().String(), "")
			return err
		},
		"invalid: user specified IP address is supported only when connecting to networks with user configured subnets", "", "ok",
	},
	{
		"start of a running container", func(b *bench) error { return b.start(b.run("a", "10.201.1.2", "")) },
		"ok", "", "",
	},
	{
		"start of a paused container", func(b *bench) error {
			id := b.run("a", "10.201.1.2", "")
			b.must(b.engine.ContainerPause(b.ctx, id))
			return b.start(id)
		}, "conflict: cannot start a paused container, try unpause instead", "", "",
	},
	{
		"unpausing of a container that runs", func(b *bench) error {
			return b.engine.ContainerUnpause(b.ctx, b.run("a", "10.201.1.2", ""))
		}, "internal: is not paused", "", "",
	},
	{
		"unpausing of a missing container", func(b *bench) error { return b.engine.ContainerUnpause(b.ctx, b.name("a")) },
		"not found: No such container: ", "", "",
	},
	{
		"stop of a container that never ran", func(b *bench) error {
			return b.engine.ContainerStop(b.ctx, b.create("a", "", ""), container.StopOptions{})
		}, "ok", "", "",
	},
	{
		"stop of a paused container", func(b *bench) error {
			id := b.run("a", "10.201.1.2", "")
			b.must(b.engine.ContainerPause(b.ctx, id))
			second := 1
			return b.engine.ContainerStop(b.ctx, id, container.StopOptions{Timeout: &second})
		}, "ok", "", "",
	},
	{
		"removal by force of a paused container", func(b *bench) error {
			id := b.run("a", "10.201.1.2", "")
			b.must(b.engine.ContainerPause(b.ctx, id))
			return b.remove(id)
		}, "ok", "", "",
	},
	{
		"host port that another container has", func(b *bench) error {
			publish := func(c *container.Config, host *container.HostConfig) {
				c.ExposedPorts = nat.PortSet{"80/tcp": {}}
				host.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.77", HostPort: "20179"}}}
			}
			for _, name := range []string{"a", "b"} {
				id, err := b.tryCreate(name, "", "", publish)
				b.must(err)
				if err := b.start(id); err != nil {
					return err
				}
			}
			return nil
		}, "internal: driver failed programming external connectivity on endpoint", "", "",
	},
	{
		"inspection of a missing image", func(b *bench) error {
			_, err := b.engine.ImageInspect(b.ctx, contractPrefix+"missing:1")
			return err
		}, "not found: No such image: " + contractPrefix + "missing:1", "", "",
	},
	{
		"inspection of a name that two networks have", func(b *bench) error {
			b.duplicate(b.net, netip.MustParsePrefix("10.201.4.0/24"))
			_, err := b.engine.NetworkInspect(b.ctx, b.net, network.InspectOptions{})
			return err
		}, "invalid: is ambiguous", "n/a", "n/a",
	},
	{
		"start in one of two networks of a name", func(b *bench) error {
			b.duplicate(b.net, netip.MustParsePrefix("10.201.4.0/24"))
			return b.start(b.create("a", "10.201.1.2", ""))
		}, "invalid: network NAME is ambiguous (2 matches found on name)", "n/a", "n/a",
	},
	{
		"removal by ID of one of two networks of a name", func(b *bench) error {
			return b.engine.NetworkRemove(b.ctx, b.duplicate(b.net, netip.MustParsePrefix("10.201.4.0/24")))
		}, "ok", "n/a", "n/a",
	},
}

func testRefusals(t *testing.T, onBench func(*testing.T, func(*bench))) {
	for _, refusal := range refusals {
		t.Run(refusal.name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				want := refusal.docker20
				if b.release >= memengine.Docker28 && refusal.docker28 != "" {
					want = refusal.docker28
				}
				if b.release >= memengine.Docker29 && refusal.docker29 != "" {
					want = refusal.docker29
				}
				if want == "n/a" {
					return // this release has no such situation
				}
				err := refusal.do(b)
				b.t.Log(err)
				class, text, _ := strings.Cut(want, ": ")
				text = strings.ReplaceAll(strings.ReplaceAll(text, "NAME", b.net), "ID", b.netID)
				if got := errorClass(err); got != class {
					b.t.Fatalf("class is %s, want %s: %v", got, class, err)
				}
				if err != nil && !strings.Contains(err.Error(), text) {
					b.t.Errorf("answer is %q, want %q in it", err, text)
				}
			})
		})
	}
}
