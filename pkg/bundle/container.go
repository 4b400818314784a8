package bundle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

// removalTimeout bounds the wait for a container's removal, which takes an engine well
// under a second unless its storage is in trouble.
const removalTimeout = time.Minute

// Start creates and starts the bundle's container in the bottle's network, which must
// exist, and returns the container's ID. The image must exist, too. Of a name that is
// taken it says so in a [*ConflictError]; a container that dies at once is a
// [*DeadError]. A container that it created and could not start is removed again.
func (l *Lifecycle) Start(ctx context.Context, spec Spec) (string, error) {
	if err := spec.Check(); err != nil {
		return "", err
	}
	if err := l.checkSources(spec.Volumes); err != nil {
		return "", err
	}
	o, err := l.observe(ctx, spec.Slug, spec.image())
	if err != nil {
		return "", err
	}
	switch {
	case o.noImage != nil:
		return "", fmt.Errorf("image %s: %w", spec.image(), o.noImage)
	case o.container != nil:
		return "", &ConflictError{Object: "container " + ContainerName(spec.Slug), Reason: "exists already", Remedy: "stop it first"}
	case o.network() == nil:
		return "", fmt.Errorf("network %s does not exist: %w", NetworkName(spec.Slug), errdefs.ErrNotFound)
	}
	place, err := spec.adopt(*o.network())
	if err != nil {
		return "", err
	}
	r, err := newRequest(spec, o.image, l.lookupEnv)
	if err != nil {
		return "", err
	}
	run := &attempt{life: l, request: r, logLines: defaultLogLines}
	_, err = run.create(ctx, place)
	if err != nil {
		return "", run.failed(ctx, err)
	}
	return run.containerID, nil
}

// Stop stops and removes the bundle's container and returns when it is gone. It returns
// nil when there is none. The bundle is given timeout seconds to end by itself, the
// engine's default of ten with nil. Errors: [*ConflictError] for a container that is no
// bundle.
func (l *Lifecycle) Stop(ctx context.Context, slug string, timeout *int) error {
	if err := CheckSlug(slug); err != nil {
		return err
	}
	found, err := l.findContainer(ctx, slug)
	if err != nil || found == nil {
		return err
	}
	return l.stopContainer(ctx, slug, *found, timeout)
}

func (l *Lifecycle) stopContainer(ctx context.Context, slug string, found container.InspectResponse, timeout *int) error {
	if !isBundle(found, slug) {
		return foreignContainer(slug)
	}
	step := Step{Slug: slug, Action: "Remove container", Object: ContainerName(slug)}
	return l.step(step, func() error {
		if found.State.Running && !found.State.Paused && !found.State.Restarting {
			err := l.Engine.ContainerStop(ctx, found.ID, container.StopOptions{Timeout: timeout})
			if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
				return fmt.Errorf("stop container %s: %w", ContainerName(slug), err)
			}
		}
		return l.removeContainer(ctx, slug, found.ID)
	})
}

// removeContainer removes a container by force and returns when it is gone.
func (l *Lifecycle) removeContainer(ctx context.Context, slug, id string) error {
	err := l.Engine.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	switch {
	case errdefs.IsNotFound(err):
		return nil
	case err != nil && !errdefs.IsConflict(err): // a conflict is a removal under way
		return fmt.Errorf("remove container %s: %w", ContainerName(slug), err)
	}
	return l.awaitRemoval(ctx, slug, id)
}

// awaitRemoval returns when a container is gone. While it is being removed it may look
// dead for a moment; only one that stays so is in trouble.
func (l *Lifecycle) awaitRemoval(ctx context.Context, slug, id string) error {
	ctx, stop := context.WithTimeoutCause(ctx, removalTimeout,
		fmt.Errorf("container %s is still there %s after its removal began: %w", ContainerName(slug), removalTimeout, context.DeadlineExceeded))
	defer stop()
	for {
		removed, failed := l.Engine.ContainerWait(ctx, id, container.WaitConditionRemoved)
		select {
		case <-removed:
		case <-failed: // the inspection tells what is the matter
		}
		_, err := l.Engine.ContainerInspect(ctx, id)
		switch {
		case errdefs.IsNotFound(err):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("inspect container %s: %w", ContainerName(slug), err)
		}
		if err := pause(ctx, firstInterval); err != nil {
			return err
		}
	}
}

// chooseHostIP returns where ports are published that name no address themselves.
func (l *Lifecycle) chooseHostIP(ctx context.Context, spec Spec) (netip.Addr, error) {
	if !spec.HostIPAuto {
		return spec.HostIP, nil
	}
	bundles, err := l.Engine.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", LabelSlug))})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list containers: %w", err)
	}
	used := make(map[string]bool, len(bundles))
	for _, other := range bundles {
		if other.Labels[LabelSlug] != spec.Slug {
			used[other.Labels[LabelHostIP]] = true
		}
	}
	for address := range netalloc.LoopbackOrder(spec.Slug) {
		if !used[address.String()] {
			return address, nil
		}
	}
	return netip.Addr{}, errors.New("every loopback address is in use by another bottle")
}

// endpoint returns a container's endpoint in the bottle's network, nil where it has none.
func endpoint(found container.InspectResponse, slug string) *network.EndpointSettings {
	if found.NetworkSettings == nil {
		return nil
	}
	return found.NetworkSettings.Networks[NetworkName(slug)]
}

// isPlaced reports whether a container is, or will be once started, in the network and at
// the address of a placement.
func isPlaced(found container.InspectResponse, slug string, place placement) bool {
	e := endpoint(found, slug)
	if e == nil {
		return false
	}
	if e.NetworkID != "" && e.NetworkID != place.networkID {
		return false
	}
	if e.IPAddress != "" {
		return e.IPAddress == place.address.String()
	}
	return e.IPAMConfig != nil && e.IPAMConfig.IPv4Address == place.address.String()
}
