package bundle

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
)

// explainTaken sorts out who has the bundle's address.
func (l *Lifecycle) explainTaken(ctx context.Context, slug, id string, place placement, taken error) error {
	holder, err := l.holder(ctx, slug, place)
	if err != nil {
		return errors.Join(taken, err)
	}
	switch {
	case holder == "":
		return &contention{taken}
	case holder == ContainerName(slug):
		return l.freeStale(ctx, slug, id, place, taken)
	}
	return &ConflictError{
		Object: "network " + NetworkName(slug),
		Reason: fmt.Sprintf("has container %s at the bundle's address %s", holder, place.address),
		Remedy: fmt.Sprintf("disconnect it (docker network disconnect --force %s %s) and try again", NetworkName(slug), holder),
	}
}

// holder returns the name of whatever has a placement's address, "" where nothing has.
func (l *Lifecycle) holder(ctx context.Context, slug string, place placement) (string, error) {
	found, err := l.Engine.NetworkInspect(ctx, place.networkID, network.InspectOptions{})
	if errdefs.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("inspect network %s: %w", NetworkName(slug), err)
	}
	for _, endpoint := range found.Containers {
		if address, _, _ := strings.Cut(endpoint.IPv4Address, "/"); address == place.address.String() {
			return endpoint.Name, nil
		}
	}
	return "", nil
}

// freeStale frees a stale endpoint of the bundle's name, which kept a container from
// being started. That container has to go first: where there is one, the engine takes the
// name for the container's and leaves the endpoint as it is.
func (l *Lifecycle) freeStale(ctx context.Context, slug, id string, place placement, taken error) error {
	if err := l.removeContainer(ctx, slug, id); err != nil {
		return errors.Join(taken, err)
	}
	found, err := l.Engine.NetworkInspect(ctx, place.networkID, network.InspectOptions{})
	if err != nil && !errdefs.IsNotFound(err) {
		return errors.Join(taken, fmt.Errorf("inspect network %s: %w", NetworkName(slug), err))
	}
	// By now another process may have freed it and started a container of this name.
	if err == nil && hasStale(found, slug) {
		if err := l.freeEndpoint(ctx, slug, place.networkID); err != nil {
			return errors.Join(taken, err)
		}
	}
	return &contention{taken}
}

// hasStale reports whether a network has an endpoint of the bundle's name that belongs to
// no container, as an engine leaves it that crashed, or whose disk was full, when the
// container was removed.
func hasStale(found network.Inspect, slug string) bool {
	for key, endpoint := range found.Containers {
		if endpoint.Name == ContainerName(slug) && strings.HasPrefix(key, "ep-") {
			return true
		}
	}
	return false
}

// freeEndpoint removes an endpoint that bears the bundle's name although no container
// does. The endpoint keeps the bundle's address taken and the network in use.
func (l *Lifecycle) freeEndpoint(ctx context.Context, slug, networkID string) error {
	err := l.Engine.NetworkDisconnect(ctx, networkID, ContainerName(slug), true)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("free the stale endpoint %s of network %s: %w", ContainerName(slug), NetworkName(slug), err)
	}
	return nil
}
