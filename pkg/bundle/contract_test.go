package bundle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
)

// The contract is what this package relies on an engine to do. The same table runs
// against the in-memory engine here and, in builds with the tag e2e, against the engine
// that the environment names. This keeps the in-memory engine honest.

// contractSubnet, and no container.
const contractPrefix = "dbmod-"

var (
	_ contractEngine = (*memengine.Client)(nil)

	contractSubnet = netip.MustParsePrefix("10.201.1.0/24")
)

// contractEngine is an engine with what the tests need beyond this package's needs.
type contractEngine interface {
	Engine
	ContainerKill(ctx context.Context, container, signal string) error
	ContainerPause(ctx context.Context, container string) error
}

// bench is one case's hold on an engine.
type bench struct {
	t       *testing.T
	ctx     context.Context
	engine  contractEngine
	release memengine.Release
	image   string
	net     string // a network with contractSubnet
	netID   string

	// duplicate creates another network of a name, as a race of two clients does; nil
	// where the engine does not let it happen.
	duplicate func(name string, subnet netip.Prefix) string
}

func errorClass(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errdefs.IsNotFound(err):
		return "not found"
	case errdefs.IsConflict(err):
		return "conflict"
	case errdefs.IsInvalidArgument(err):
		return "invalid"
	case errdefs.IsPermissionDenied(err):
		return "denied"
	case errdefs.IsInternal(err):
		return "internal"
	}
	return "other"
}

func autoRemove(_ *container.Config, host *container.HostConfig) { host.AutoRemove = true }

func pinnedAddress(s *network.EndpointSettings) string {
	if s.IPAMConfig == nil {
		return ""
	}
	return s.IPAMConfig.IPv4Address
}

func (b *bench) name(short string) string { return b.net + "-" + short }

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) createNetwork(name, subnet string) error {
	options := network.CreateOptions{Driver: "bridge", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet}}}}
	_, err := b.engine.NetworkCreate(b.ctx, name, options)
	return err
}

func (b *bench) tryCreate(name, address, script string, modify func(*container.Config, *container.HostConfig)) (string, error) {
	config := &container.Config{Image: b.image, Env: []string{memengine.ScriptVariable + "=" + script}}
	host := &container.HostConfig{NetworkMode: container.NetworkMode(b.net)}
	settings := &network.EndpointSettings{}
	if address != "" {
		settings.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: address}
	}
	if modify != nil {
		modify(config, host)
	}
	networking := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{b.net: settings}}
	created, err := b.engine.ContainerCreate(b.ctx, config, host, networking, nil, b.name(name))
	return created.ID, err
}

func (b *bench) create(name, address, script string) string {
	b.t.Helper()
	id, err := b.tryCreate(name, address, script, nil)
	b.must(err)
	return id
}

func (b *bench) tryRun(name, address, script string) (string, error) {
	id, err := b.tryCreate(name, address, script, nil)
	if err != nil {
		return "", err
	}
	return id, b.start(id)
}

func (b *bench) run(name, address, script string) string {
	b.t.Helper()
	id, err := b.tryRun(name, address, script)
	b.must(err)
	return id
}

func (b *bench) start(id string) error {
	return b.engine.ContainerStart(b.ctx, id, container.StartOptions{})
}

func (b *bench) remove(id string) error {
	return b.engine.ContainerRemove(b.ctx, id, container.RemoveOptions{Force: true})
}

func (b *bench) settings(id string) *network.EndpointSettings {
	b.t.Helper()
	found, err := b.engine.ContainerInspect(b.ctx, id)
	b.must(err)
	return found.NetworkSettings.Networks[b.net]
}

func (b *bench) wantState(id string, status container.ContainerState, running bool) {
	b.t.Helper()
	found, err := b.engine.ContainerInspect(b.ctx, id)
	b.must(err)
	if found.State.Status != status || found.State.Running != running {
		b.t.Errorf("container is %s (running: %v), want %s", found.State.Status, found.State.Running, status)
	}
}

func (b *bench) await(id string, condition container.WaitCondition) {
	b.t.Helper()
	done, failed := b.engine.ContainerWait(b.ctx, id, condition)
	select {
	case <-done:
	case err := <-failed:
		if !errdefs.IsNotFound(err) {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) awaitGone(id string) {
	b.t.Helper()
	b.await(id, container.WaitConditionRemoved)
	if _, err := b.engine.ContainerInspect(b.ctx, id); !errdefs.IsNotFound(err) {
		b.t.Fatalf("container is still there: %v", err)
	}
}

// history returns what the engine remembers of a container's end.
func (b *bench) history(id string) []string {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, 10*time.Second)
	defer stop()
	args := filters.NewArgs(filters.Arg("container", id))
	for _, action := range []events.Action{events.ActionDie, events.ActionOOM, events.ActionKill, events.ActionDestroy} {
		args.Add("event", string(action))
	}
	messages, failed := b.engine.Events(ctx, events.ListOptions{Since: "1", Filters: args})
	var seen []string
	for {
		select {
		case message := <-messages:
			line := string(message.Action)
			if message.Action == events.ActionDie {
				line += " " + message.Actor.Attributes["exitCode"]
			}
			seen = append(seen, line)
			if message.Action == events.ActionDestroy {
				return seen
			}
		case err := <-failed:
			if !errors.Is(err, context.DeadlineExceeded) {
				b.t.Error(err)
			}
			return seen
		}
	}
}

// newScenery creates the network that the cases start from.
func (b *bench) newScenery() {
	b.t.Helper()
	created, err := b.engine.NetworkCreate(b.ctx, b.net, network.CreateOptions{
		Driver: "bridge",
		IPAM: &network.IPAM{Driver: "default", Config: []network.IPAMConfig{{
			Subnet: contractSubnet.String(), Gateway: "10.201.1.1", IPRange: "10.201.1.128/25",
		}}},
		Labels: map[string]string{LabelSlug: "contract"},
	})
	b.must(err)
	b.netID = created.ID
}

var releases = []memengine.Release{memengine.Docker20, memengine.Docker28, memengine.Docker29}

// testPace makes the in-memory engine take as long for things as Docker does.
var testPace = memengine.Pace{NetworkCreate: 20 * time.Millisecond, Removal: 60 * time.Millisecond, NameRelease: 2 * time.Millisecond}

func TestContract(t *testing.T) {
	for _, release := range releases {
		t.Run(fmt.Sprint("docker", release), func(t *testing.T) {
			newBench := func(t *testing.T) *bench {
				engine := memengine.New(release, testPace)
				t.Cleanup(engine.Close)
				ctx, stop := context.WithCancel(t.Context())
				t.Cleanup(stop)
				b := &bench{t: t, ctx: ctx, engine: engine.Client(), release: release, image: contractPrefix + "program:1", net: contractPrefix + "contract"}
				engine.Tag(b.image, memengine.NewImage("program", nil, false))
				if release == memengine.Docker20 {
					b.duplicate = func(name string, subnet netip.Prefix) string {
						id, err := engine.DuplicateNetwork(name, network.CreateOptions{IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet.String()}}}})
						b.must(err)
						return id
					}
				}
				b.newScenery()
				return b
			}
			inBubble := func(t *testing.T, do func(b *bench)) {
				synctest.Test(t, func(t *testing.T) { do(newBench(t)) })
			}
			testRefusals(t, inBubble)
			testBehaviours(t, inBubble)
		})
	}
}
