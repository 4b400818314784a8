package bundle

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// DownOptions modify [Lifecycle.Down].
type DownOptions struct {
	// Timeout is how many seconds the bundle has to end by itself before it is killed.
	// Nil: the engine's default, ten seconds.
	Timeout *int
}

// Down removes a bottle's container, waits until it is gone, and removes the bottle's
// network. It succeeds when there is nothing to remove. A network that other containers
// are attached to stays, and a [Warning] names them. Errors, among those of the engine:
// [*InvalidError], [*ConflictError] for a container of the name that is no bundle, and
// [*BusyError] when another process brings the bottle up meanwhile.
func (l *Lifecycle) Down(ctx context.Context, slug string, options DownOptions) error {
	if err := CheckSlug(slug); err != nil {
		return err
	}
	removed := ""
	return l.retry(ctx, slug, func() error {
		o, err := l.observe(ctx, slug, "")
		if err != nil {
			return err
		}
		if o.container != nil {
			if removed != "" && removed != o.container.ID && o.container.State.Status != container.StateRemoving {
				return &BusyError{Slug: slug, Err: fmt.Errorf("a new container %s has appeared: %w", ContainerName(slug), errdefs.ErrConflict)}
			}
			removed = o.container.ID
			if err := l.stopContainer(ctx, slug, *o.container, options.Timeout); err != nil {
				return err
			}
		}
		return l.removeNetworks(ctx, slug, o.networks)
	})
}
