//go:build e2e && linux

package faults

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
)

// manyFiles in a container's file system make its removal take a while.
const manyFiles = "FILES=2000"

// TestRemovalInProgress brings a bottle up, and down, while the engine removes its
// container.
func TestRemovalInProgress(t *testing.T) {
	s := tests.shared
	for _, verb := range []string{"up", "down"} {
		t.Run(verb, func(t *testing.T) {
			ctx, slug := t.Context(), tests.slug()
			s.must(t, upArgs(s, slug, "-e", manyFiles)...)
			if err := s.checkUp(ctx, slug); err != nil {
				t.Fatal(err)
			}
			old, err := s.objects(ctx, slug)
			if err != nil {
				t.Fatal(err)
			}
			s.beginRemoval(t, old.containerID())
			if verb == "down" {
				if err := s.removes(ctx, t, slug); err != nil {
					t.Error(err)
				}
				return
			}
			s.must(t, upArgs(s, slug)...)
			if err := s.checkUp(ctx, slug); err != nil {
				t.Error(err)
			}
			now, err := s.objects(ctx, slug)
			if err != nil {
				t.Fatal(err)
			}
			if now.networkID() != old.networkID() || now.containerID() == old.containerID() {
				t.Errorf("there was %s, there is %s", old, now)
			}
			if err := s.removes(ctx, t, slug); err != nil {
				t.Error(err)
			}
		})
	}
}

// beginRemoval kills a container and returns while the engine removes it.
func (s *site) beginRemoval(t testing.TB, id string) {
	t.Helper()
	ctx := t.Context()
	if err := s.engine.ContainerKill(ctx, id, "KILL"); err != nil {
		t.Error(err)
		return
	}
	for {
		found, err := s.engine.ContainerInspect(ctx, id)
		switch {
		case errdefs.IsNotFound(err):
			t.Error("the container was removed before anybody could look: it needs more files")
			return
		case err != nil:
			t.Error(err)
			return
		case found.State.Status == container.StateRemoving:
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestNameInUse lets another process's bundle appear just before up creates its own, and
// go away as slowly as possible, as it is when that process runs down.
func TestNameInUse(t *testing.T) {
	ctx, s, slug := t.Context(), tests.shared, tests.slug()
	isUp(t, s, slug)
	old, err := s.objects(ctx, slug)
	if err != nil {
		t.Fatal(err)
	}
	model, err := s.engine.ContainerInspect(ctx, old.containerID())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.engine.ContainerRemove(ctx, old.containerID(), container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	other := ""
	proxy := newProxy(t, s.dial, fault{at: point{"POST /containers/create", 1}, kind: pass, before: func() {
		model.Config.Env = append(slices.Clone(model.Config.Env), manyFiles)
		endpoints := map[string]*network.EndpointSettings{bundle.NetworkName(slug): {
			IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: model.NetworkSettings.Networks[bundle.NetworkName(slug)].IPAddress},
		}}
		created, err := s.engine.ContainerCreate(ctx, model.Config, model.HostConfig, &network.NetworkingConfig{EndpointsConfig: endpoints}, nil, bundle.ContainerName(slug))
		if err != nil {
			t.Error(err)
			return
		}
		other = created.ID
		if err := s.engine.ContainerStart(ctx, other, container.StartOptions{}); err != nil {
			t.Error(err)
			return
		}
		if err := s.checkUp(ctx, slug); err != nil {
			t.Error(err)
			return
		}
		s.beginRemoval(t, other)
	}})
	if o := s.start(t, proxy.host, upArgs(s, slug)...).wait(); o.status != 0 {
		t.Error(o)
	}
	if !slices.Contains(proxy.points(), point{"POST /containers/create", 2}) {
		t.Error("the name was not in use")
	}
	if err := s.checkUp(ctx, slug); err != nil {
		t.Error(err)
	}
	if now, err := s.objects(ctx, slug); err != nil || now.containerID() == other {
		t.Errorf("there is %s, %v", now, err)
	}
	if err := s.removes(ctx, t, slug); err != nil {
		t.Error(err)
	}
}

// orphan removes a container while the engine can't write to its disk: then the
// container's endpoint stays in its network, for good.
func (e *ownEngine) orphan(t *testing.T, networkID, name string) {
	t.Helper()
	ctx := t.Context()
	var unlimited unix.Rlimit
	if err := unix.Prlimit(e.daemon.Process.Pid, unix.RLIMIT_FSIZE, nil, &unlimited); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(e.daemon.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 0, Max: unlimited.Max}, nil); err != nil {
		t.Fatal(err)
	}
	removeErr := e.engine.ContainerRemove(ctx, name, container.RemoveOptions{Force: true})
	if err := unix.Prlimit(e.daemon.Process.Pid, unix.RLIMIT_FSIZE, &unlimited, nil); err != nil {
		t.Fatal(err)
	}
	if removeErr != nil {
		t.Fatal(removeErr)
	}
	if _, err := e.engine.ContainerInspect(ctx, name); !errdefs.IsNotFound(err) {
		t.Fatalf("the container is still there: %v", err)
	}
	found, err := e.engine.NetworkInspect(ctx, networkID, network.InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range found.Containers {
		if endpoint.Name == name {
			return
		}
	}
	t.Fatalf("no endpoint stayed: %v", found.Containers)
}

// TestStaleEndpoint leaves an endpoint without a container in a bottle's network: the
// bundle's own, which up and down free, and a guest's at the bundle's address, which is
// not theirs to free.
func TestStaleEndpoint(t *testing.T) {
	e := tests.own(t)
	s, ctx := e.site, t.Context()
	for _, verb := range []string{"up", "down"} {
		t.Run(verb, func(t *testing.T) {
			slug := tests.slug()
			isUp(t, s, slug)
			before, err := s.objects(ctx, slug)
			if err != nil {
				t.Fatal(err)
			}
			e.orphan(t, before.networkID(), bundle.ContainerName(slug))
			if verb == "up" {
				s.must(t, upArgs(s, slug)...)
				if err := s.checkUp(ctx, slug); err != nil {
					t.Error(err)
				}
				if after, err := s.objects(ctx, slug); err != nil || after.networkID() != before.networkID() {
					t.Errorf("there was %s, there is %s, %v", before, after, err)
				}
			}
			if err := s.removes(ctx, t, slug); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("guest's", func(t *testing.T) {
		slug := tests.slug()
		isUp(t, s, slug)
		before, err := s.objects(ctx, slug)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.engine.ContainerRemove(ctx, before.containerID(), container.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		name := slug + "-guest"
		s.joins(t, slug, name, s.second(t, before.networks[0]))
		e.orphan(t, before.networkID(), name)
		o := s.plugin(t, upArgs(s, slug)...)
		if err := o.check(); err != nil || o.status != 1 || !strings.Contains(o.stderr, name) {
			t.Errorf("%v: %s", err, o)
		}
		remedy := "docker network disconnect --force " + bundle.NetworkName(slug) + " " + name
		if !strings.Contains(o.stderr, remedy) {
			t.Errorf("%q does not say %q", o.stderr, remedy)
		}
		if err := s.engine.NetworkDisconnect(ctx, bundle.NetworkName(slug), name, true); err != nil {
			t.Error(err)
		}
		if err := s.recovers(ctx, t, slug, upArgs(s, slug)); err != nil {
			t.Errorf("after the remedy: %v", err)
		}
	})
}

// TestGuestAttached takes a bottle down, and brings it up again, with a guest in its
// network.
func TestGuestAttached(t *testing.T) {
	ctx, s, slug := t.Context(), tests.shared, tests.slug()
	isUp(t, s, slug)
	before, err := s.objects(ctx, slug)
	if err != nil {
		t.Fatal(err)
	}
	bundleAddress := s.second(t, before.networks[0])
	s.joins(t, slug, slug+"-guest", netip.Addr{})

	o := s.must(t, "down", "-q", slug)
	if !strings.HasPrefix(o.stderr, "WARNING: ") || !strings.Contains(o.stderr, slug+"-guest") {
		t.Errorf("down said %q", o.stderr)
	}
	after, err := s.objects(ctx, slug)
	if err != nil {
		t.Fatal(err)
	}
	if after.networkID() != before.networkID() || len(after.containers) != 0 {
		t.Errorf("there was %s, there is %s", before, after)
	}

	// A guest that comes while the bundle is away must not get its address.
	if address := s.joins(t, slug, slug+"-guest2", netip.Addr{}); address == bundleAddress {
		t.Errorf("a guest was given the bundle's address %s", address)
	}
	if o := s.must(t, upArgs(s, slug)...); o.stdout != bundleAddress.String() {
		t.Errorf("the bundle came up at %s, not at %s", o.stdout, bundleAddress)
	}
	if err := s.checkUp(ctx, slug); err != nil {
		t.Error(err)
	}
	for _, guest := range []string{slug + "-guest", slug + "-guest2"} {
		if err := s.engine.ContainerRemove(ctx, guest, container.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}

	// A guest that was given the bundle's address by hand is told of.
	if err := s.engine.ContainerRemove(ctx, bundle.ContainerName(slug), container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	s.joins(t, slug, slug+"-squatter", bundleAddress)
	o = s.plugin(t, upArgs(s, slug)...)
	if err := o.check(); err != nil || o.status != 1 || !strings.Contains(o.stderr, slug+"-squatter") {
		t.Errorf("%v: %s", err, o)
	}
	if after, err := s.objects(ctx, slug); err != nil || after.networkID() != before.networkID() || len(after.containers) != 0 {
		t.Errorf("there is %s, %v", after, err)
	}
	if err := s.engine.ContainerRemove(ctx, slug+"-squatter", container.RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if err := s.recovers(ctx, t, slug, upArgs(s, slug)); err != nil {
		t.Error(err)
	}
}

// joins starts a container in a bottle's network, at an address or at one that the engine
// chooses, and returns its address.
func (s *site) joins(t *testing.T, slug, name string, address netip.Addr) netip.Addr {
	t.Helper()
	ctx, networkName := t.Context(), bundle.NetworkName(slug)
	settings := &network.EndpointSettings{}
	if address.IsValid() {
		settings.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: address.String()}
	}
	created, err := s.engine.ContainerCreate(ctx, &container.Config{Image: s.plain}, &container.HostConfig{NetworkMode: container.NetworkMode(networkName)},
		&network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{networkName: settings}}, nil, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := s.engine.ContainerRemove(context.Background(), created.ID, container.RemoveOptions{Force: true})
		if err != nil && !errdefs.IsNotFound(err) {
			t.Error(err)
		}
	})
	if err := s.engine.ContainerStart(ctx, created.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	found, err := s.engine.ContainerInspect(ctx, created.ID)
	if err != nil {
		t.Fatal(err)
	}
	return netip.MustParseAddr(found.NetworkSettings.Networks[networkName].IPAddress)
}

// second returns the second address of a network's subnet.
func (s *site) second(t *testing.T, n network.Summary) netip.Addr {
	t.Helper()
	subnet, err := netip.ParsePrefix(n.IPAM.Config[0].Subnet)
	if err != nil {
		t.Fatal(err)
	}
	return subnet.Masked().Addr().Next().Next()
}
