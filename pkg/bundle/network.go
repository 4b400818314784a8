package bundle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

// placement is where in the engine's networks a bundle belongs.
type placement struct {
	networkID string
	subnet    netip.Prefix
	gateway   netip.Addr
	address   netip.Addr
}

// CreateNetwork makes sure that the bottle's network exists, and returns its ID and its
// addresses. The spec's Slug, Pool, Subnet, Gateway and Address count; a network that
// exists already is used with the subnet it has. Its dynamic addresses come from the upper
// half of the subnet only. Errors: [*InvalidError], *netalloc.SubnetError,
// *netalloc.ExhaustedError when the pool is used up, [*ConflictError] when a network is in
// the way, [*BusyError].
func (l *Lifecycle) CreateNetwork(ctx context.Context, spec Spec) (id string, subnet netip.Prefix, gateway netip.Addr, err error) {
	if err := spec.Check(); err != nil {
		return "", netip.Prefix{}, netip.Addr{}, err
	}
	var place placement
	err = l.retry(ctx, spec.Slug, func() error {
		own, others, err := l.findNetworks(ctx, spec.Slug)
		if err != nil {
			return err
		}
		place, _, err = l.placeNetwork(ctx, spec, own, others)
		return err
	})
	return place.networkID, place.subnet, place.gateway, err
}

// placeNetwork adopts the bottle's network or creates it, and says whether it did.
func (l *Lifecycle) placeNetwork(ctx context.Context, spec Spec, own, others []network.Summary) (place placement, created bool, err error) {
	if len(own) > 1 {
		return place, false, l.removeDuplicates(ctx, spec.Slug, own)
	}
	if len(own) == 1 {
		place, err = spec.adopt(own[0])
		return place, false, err
	}
	step := Step{Slug: spec.Slug, Action: "Create network", Object: NetworkName(spec.Slug)}
	err = l.step(step, func() error {
		place, created, err = l.createNetwork(ctx, spec, others)
		return err
	})
	return place, created, err
}

// adopt says where the bundle goes in a network that exists.
func (s Spec) adopt(found network.Summary) (placement, error) {
	conflict := func(reason, remedy string) error {
		return &ConflictError{Object: "network " + found.Name, Reason: reason, Remedy: remedy}
	}
	again := fmt.Sprintf("remove it first (docker bottle down %s)", s.Slug)
	subnet, gateway := addressing(found)
	switch {
	case !subnet.IsValid():
		return placement{}, conflict("exists without an IPv4 subnet, so the bundle can't have an address of its own in it", again)
	case s.Subnet.IsValid() && s.Subnet != subnet:
		return placement{}, conflict(fmt.Sprintf("exists with subnet %s, not %s", subnet, s.Subnet), again+" or leave the subnet out")
	case s.Gateway.IsValid() && gateway.IsValid() && s.Gateway != gateway:
		return placement{}, conflict(fmt.Sprintf("exists with gateway %s, not %s", gateway, s.Gateway), again+" or leave the gateway out")
	}
	place := placement{networkID: found.ID, subnet: subnet, gateway: gateway, address: s.addressIn(subnet)}
	if err := checkPlacement(subnet, orElse(gateway, s.gatewayIn(subnet)), place.address); err != nil {
		if s.Address.IsValid() {
			return placement{}, err
		}
		return placement{}, conflict(fmt.Sprintf("leaves the bundle no place at %s: %v", place.address, err), again+" or give another address")
	}
	return place, nil
}

func orElse(a, b netip.Addr) netip.Addr {
	if a.IsValid() {
		return a
	}
	return b
}

// looksForHolder is how often the network that has a subnet which was asked for is looked
// for, at intervals that double.
const looksForHolder = 6

// createNetwork creates the bottle's network in the first subnet that the engine accepts.
// The engine is the arbiter: subnets that look free may be taken by the time they are
// asked for.
func (l *Lifecycle) createNetwork(ctx context.Context, spec Spec, others []network.Summary) (place placement, created bool, err error) {
	var routed, disliked []netip.Prefix
	if !spec.Subnet.IsValid() {
		if routed, disliked, err = l.hostRoutes(spec.pool().Bits()); err != nil {
			return place, false, err
		}
	}
	var refused []netip.Prefix
	for {
		subnet, err := spec.chooseSubnet(others, slices.Concat(routed, refused), disliked)
		if err != nil {
			return place, false, err
		}
		place = placement{subnet: subnet, gateway: spec.gatewayIn(subnet), address: spec.addressIn(subnet)}
		if err := checkPlacement(subnet, place.gateway, place.address); err != nil {
			return place, false, err
		}
		place.networkID, err = l.requestNetwork(ctx, spec.Slug, place)
		if err == nil {
			return place, true, l.confirmNetwork(ctx, spec.Slug, place)
		}
		if errdefs.IsConflict(err) && !isOverlap(err) {
			return place, false, &contention{err} // a network of this name has appeared
		}
		if !isOverlap(err) {
			// The request may have had its effect all the same: the answer got lost.
			return place, false, errors.Join(fmt.Errorf("create network %s: %w", NetworkName(spec.Slug), err), l.discardNetwork(ctx, spec.Slug, place, others))
		}
		if spec.Subnet.IsValid() {
			if len(refused) == looksForHolder {
				return place, false, fmt.Errorf("create network %s: %w", NetworkName(spec.Slug), err)
			}
			// Docker 20.10 reserves a subnet some 60 ms before it lists the network.
			if err := pause(ctx, firstInterval<<len(refused)); err != nil {
				return place, false, err
			}
		}
		own, now, listErr := l.findNetworks(ctx, spec.Slug)
		if listErr != nil {
			return place, false, listErr
		}
		if len(own) > 0 {
			return place, false, &contention{err} // somebody else's up of this bottle
		}
		others, refused = now, append(refused, subnet)
	}
}

// chooseSubnet returns the spec's own subnet, unless one of the networks is in its way, or
// the best of its pool.
func (s Spec) chooseSubnet(others []network.Summary, taken, disliked []netip.Prefix) (netip.Prefix, error) {
	if !s.Subnet.IsValid() {
		return s.pool().Allocate(s.Slug, append(taken, subnets(others)...), disliked)
	}
	for _, other := range others {
		for _, prefix := range subnets([]network.Summary{other}) {
			if prefix.Overlaps(s.Subnet) {
				return s.Subnet, &ConflictError{
					Object: "subnet " + s.Subnet.String(),
					Reason: fmt.Sprintf("overlaps network %s (%s)", other.Name, prefix),
					Remedy: "choose another subnet, or leave it out to have a free one chosen",
				}
			}
		}
	}
	return s.Subnet, nil
}

// preview returns the error that creating the network would end with, as far as the list
// of networks tells.
func (s Spec) preview(others []network.Summary) error {
	subnet, err := s.chooseSubnet(others, nil, nil)
	if err != nil {
		return err
	}
	return checkPlacement(subnet, s.gatewayIn(subnet), s.addressIn(subnet))
}

func (l *Lifecycle) requestNetwork(ctx context.Context, slug string, place placement) (string, error) {
	options := network.CreateOptions{
		Driver: "bridge",
		IPAM: &network.IPAM{
			Driver: "default",
			Config: []network.IPAMConfig{{
				Subnet:  place.subnet.String(),
				Gateway: place.gateway.String(),
				// Without a range, a guest that joins before the bundle would be
				// given the bundle's address: it is the first one free.
				IPRange: netalloc.DynamicRange(place.subnet).String(),
			}},
		},
		Labels: map[string]string{LabelSlug: slug},
	}
	var response network.CreateResponse
	err := effect(ctx, func(ctx context.Context) (err error) {
		response, err = l.Engine.NetworkCreate(ctx, NetworkName(slug), options)
		return err
	})
	if err == nil && response.Warning != "" {
		l.warn(slug, "network %s: %s", NetworkName(slug), response.Warning)
	}
	return response.ID, err
}

// confirmNetwork looks at a network just created. Engines up to Docker 24 let two clients
// that come at the same moment create two networks of one name; all but the oldest go.
func (l *Lifecycle) confirmNetwork(ctx context.Context, slug string, place placement) error {
	own, _, err := l.findNetworks(ctx, slug)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(own, func(n network.Summary) bool { return n.ID == place.networkID })
	switch {
	case i < 0:
		return &contention{fmt.Errorf("network %s was removed as soon as it was created: %w", NetworkName(slug), errdefs.ErrNotFound)}
	case i > 0:
		return l.removeDuplicates(ctx, slug, own)
	}
	want := netalloc.DynamicRange(place.subnet).String()
	if !slices.ContainsFunc(own[i].IPAM.Config, func(c network.IPAMConfig) bool { return c.IPRange == want }) {
		return fmt.Errorf("network %s: the engine did not keep the range for dynamic addresses, %s: %w", NetworkName(slug), want, errdefs.ErrNotImplemented)
	}
	return nil
}

// removeDuplicates leaves one network of the bottle's name. Those that carry no label of
// this package are somebody else's and are not touched.
func (l *Lifecycle) removeDuplicates(ctx context.Context, slug string, own []network.Summary) error {
	for _, extra := range own[1:] {
		if extra.Labels[LabelSlug] != slug {
			return &ConflictError{
				Object: "network " + NetworkName(slug),
				Reason: fmt.Sprintf("exists twice, as %.12s and %.12s", own[0].ID, extra.ID),
				Remedy: fmt.Sprintf("remove the one that is not wanted (docker network rm %.12s)", extra.ID),
			}
		}
		err := l.Engine.NetworkRemove(ctx, extra.ID)
		if isEndpointActive(err) {
			return &contention{fmt.Errorf("network %s exists twice, and the newer one is in use: %w", extra.Name, err)}
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove network %s (%.12s), of which there are two: %w", extra.Name, extra.ID, err)
		}
	}
	return &contention{fmt.Errorf("network %s existed twice: %w", NetworkName(slug), errdefs.ErrConflict)}
}

// discardNetwork removes a network whose creation failed without saying whether it had
// taken place: one of this slug's label, with that subnet, that was not there before.
func (l *Lifecycle) discardNetwork(ctx context.Context, slug string, place placement, before []network.Summary) error {
	ctx, stop := cleanupContext(ctx)
	defer stop()
	own, _, err := l.findNetworks(ctx, slug)
	if err != nil {
		return nil // the failure that led here says it already
	}
	for _, n := range own {
		subnet, _ := addressing(n)
		known := slices.ContainsFunc(before, func(b network.Summary) bool { return b.ID == n.ID })
		if known || n.Labels[LabelSlug] != slug || subnet != place.subnet {
			continue
		}
		if err := l.Engine.NetworkRemove(ctx, n.ID); err != nil && !errdefs.IsNotFound(err) && !isEndpointActive(err) {
			return fmt.Errorf("remove network %s again: %w", n.Name, err)
		}
	}
	return nil
}

// RemoveNetwork removes the bottle's network. It returns nil when there is none, and when
// containers other than the bundle are attached: then it stays, and a [Warning] names
// them.
func (l *Lifecycle) RemoveNetwork(ctx context.Context, slug string) error {
	if err := CheckSlug(slug); err != nil {
		return err
	}
	return l.retry(ctx, slug, func() error {
		own, _, err := l.findNetworks(ctx, slug)
		if err != nil {
			return err
		}
		return l.removeNetworks(ctx, slug, own)
	})
}

func (l *Lifecycle) removeNetworks(ctx context.Context, slug string, own []network.Summary) error {
	var errs []error
	for _, n := range own {
		step := Step{Slug: slug, Action: "Remove network", Object: n.Name}
		errs = append(errs, l.step(step, func() error { return l.removeNetwork(ctx, slug, n.ID) }))
	}
	return errors.Join(errs...)
}

func (l *Lifecycle) removeNetwork(ctx context.Context, slug, id string) error {
	err := l.Engine.NetworkRemove(ctx, id)
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	failed := fmt.Errorf("remove network %s: %w", NetworkName(slug), err)
	if !isEndpointActive(err) {
		return failed
	}
	found, err := l.Engine.NetworkInspect(ctx, id, network.InspectOptions{})
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inspect network %s: %w", NetworkName(slug), err)
	}
	var guests []string
	for _, endpoint := range found.Containers {
		if endpoint.Name != ContainerName(slug) {
			guests = append(guests, endpoint.Name)
		}
	}
	if hasStale(found, slug) {
		if err := l.freeEndpoint(ctx, slug, id); err != nil {
			return err
		}
		return &contention{failed}
	}
	if len(guests) > 0 {
		slices.Sort(guests)
		l.warn(slug, "network %s is left in place: it is still used by %s", found.Name, strings.Join(guests, ", "))
		return nil
	}
	// The bundle itself is attached, so another process has started it meanwhile; or
	// whatever was attached has just gone.
	return &contention{failed}
}
