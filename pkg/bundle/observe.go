package bundle

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"golang.org/x/sync/errgroup"
)

// observation is what one look at the engine showed of a bottle, and of what else bears
// on it. It is three requests, made at the same time.
type observation struct {
	container *container.InspectResponse // nil where there is none
	networks  []network.Summary          // those of the bottle's name, the one to keep first
	others    []network.Summary          // everybody else's
	image     image.InspectResponse
	noImage   error // not-found error of the image
}

// network returns the bottle's network, nil where there is none.
func (o observation) network() *network.Summary {
	if len(o.networks) == 0 {
		return nil
	}
	return &o.networks[0]
}

func (l *Lifecycle) observe(ctx context.Context, slug, ref string) (observation, error) {
	var o observation
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		o.container, err = l.findContainer(ctx, slug)
		return err
	})
	group.Go(func() (err error) {
		o.networks, o.others, err = l.findNetworks(ctx, slug)
		return err
	})
	if ref != "" {
		group.Go(func() (err error) {
			o.image, err = l.Engine.ImageInspect(ctx, ref)
			if errdefs.IsNotFound(err) {
				o.noImage, err = err, nil
			}
			if err != nil {
				return fmt.Errorf("inspect image %s: %w", ref, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return o, err
	}
	o.keepOccupied(slug)
	return o, nil
}

// keepOccupied puts the network that the bundle is in before others of its name, if any.
func (o observation) keepOccupied(slug string) {
	if o.container == nil || len(o.networks) < 2 {
		return
	}
	e := endpoint(*o.container, slug)
	if e == nil {
		return
	}
	if i := slices.IndexFunc(o.networks, func(n network.Summary) bool { return n.ID == e.NetworkID }); i > 0 {
		occupied := o.networks[i]
		copy(o.networks[1:], o.networks[:i])
		o.networks[0] = occupied
	}
}

// findContainer returns the container of the bundle's name, nil where there is none.
func (l *Lifecycle) findContainer(ctx context.Context, slug string) (*container.InspectResponse, error) {
	found, err := l.Engine.ContainerInspect(ctx, ContainerName(slug))
	switch {
	case errdefs.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("inspect container %s: %w", ContainerName(slug), err)
	}
	return &found, nil
}

// findNetworks returns the networks of the bottle's name and all others. An engine may
// have several networks of one name; every client that looks orders them alike, so that
// all keep the same one: the oldest.
func (l *Lifecycle) findNetworks(ctx context.Context, slug string) (own, others []network.Summary, err error) {
	all, err := l.Engine.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list networks: %w", err)
	}
	for _, n := range all {
		if n.Name == NetworkName(slug) {
			own = append(own, n)
		} else {
			others = append(others, n)
		}
	}
	slices.SortFunc(own, func(a, b network.Summary) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return own, others, nil
}

// isBundle reports whether a container of a bundle's name is one: made by this package,
// which labels it, or by the reference tool, which always sets one variable.
func isBundle(found container.InspectResponse, slug string) bool {
	if found.Config.Labels[LabelSlug] == slug {
		return true
	}
	return slices.ContainsFunc(found.Config.Env, func(entry string) bool {
		return strings.HasPrefix(entry, DaemonsVariable+"=")
	})
}

func foreignContainer(slug string) error {
	name := ContainerName(slug)
	return &ConflictError{
		Object: "container " + name,
		Reason: "exists and is no bundle",
		Remedy: fmt.Sprintf("remove or rename it (docker rename %s NEW-NAME), or use another slug", name),
	}
}

// subnets returns the IPv4 subnets of networks.
func subnets(networks []network.Summary) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, n := range networks {
		for _, config := range n.IPAM.Config {
			if prefix, err := netip.ParsePrefix(config.Subnet); err == nil && prefix.Addr().Is4() {
				prefixes = append(prefixes, prefix.Masked())
			}
		}
	}
	return prefixes
}

// addressing returns a network's first IPv4 subnet and its gateway; the subnet is invalid
// where the network has none, the gateway where the engine does not say.
func addressing(n network.Summary) (netip.Prefix, netip.Addr) {
	for _, config := range n.IPAM.Config {
		prefix, err := netip.ParsePrefix(config.Subnet)
		if err != nil || !prefix.Addr().Is4() {
			continue
		}
		// Docker 20.10 may report a gateway with a prefix length.
		text, _, _ := strings.Cut(config.Gateway, "/")
		gateway, err := netip.ParseAddr(text)
		if err != nil {
			gateway = netip.Addr{}
		}
		return prefix.Masked(), gateway
	}
	return netip.Prefix{}, netip.Addr{}
}
