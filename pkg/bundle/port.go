package bundle

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
)

// Ports returns the published ports of a bottle on one host address, ordered by container
// port: hostIP, or, where that is the zero value, the address that the bundle was brought
// up with. Errors: [*InvalidError], [*NotUpError], and [*NotPublishedError] when there is
// no port on that address.
func (l *Lifecycle) Ports(ctx context.Context, slug string, hostIP netip.Addr) ([]PublishedPort, error) {
	all, hostIP, err := l.published(ctx, slug, hostIP)
	if err != nil {
		return nil, err
	}
	ports := onHost(all, hostIP)
	if len(ports) == 0 {
		return nil, &NotPublishedError{Slug: slug, HostIP: hostIP, Found: all}
	}
	return ports, nil
}

// HostPort returns where a container port of a bottle is published on one host address,
// chosen as by [Lifecycle.Ports]. Errors: the same, and [*NotPublishedError] when that
// port is not published on that address.
func (l *Lifecycle) HostPort(ctx context.Context, slug string, port Port, hostIP netip.Addr) (PublishedPort, error) {
	if err := port.check(); err != nil {
		return PublishedPort{}, err
	}
	all, hostIP, err := l.published(ctx, slug, hostIP)
	if err != nil {
		return PublishedPort{}, err
	}
	for _, p := range onHost(all, hostIP) {
		if p.Key() == port.Key() {
			return p, nil
		}
	}
	return PublishedPort{}, &NotPublishedError{Slug: slug, Port: port.Key(), HostIP: hostIP, Found: all}
}

func (l *Lifecycle) published(ctx context.Context, slug string, hostIP netip.Addr) ([]PublishedPort, netip.Addr, error) {
	found, err := l.bundleOf(ctx, slug)
	if err != nil {
		return nil, hostIP, err
	}
	if !hostIP.IsValid() {
		hostIP = hostIPOf(found)
	}
	return publishedPorts(found), hostIP, nil
}

// bundleOf returns the container of a bottle that has to be up.
func (l *Lifecycle) bundleOf(ctx context.Context, slug string) (container.InspectResponse, error) {
	if err := CheckSlug(slug); err != nil {
		return container.InspectResponse{}, err
	}
	found, err := l.findContainer(ctx, slug)
	switch {
	case err != nil:
		return container.InspectResponse{}, err
	case found == nil:
		return container.InspectResponse{}, &NotUpError{Slug: slug}
	case !isBundle(*found, slug):
		return container.InspectResponse{}, foreignContainer(slug)
	}
	return *found, nil
}

// hostIPOf returns the host address that a bundle was brought up with. The reference tool
// leaves no label; its default is the same as ours.
func hostIPOf(found container.InspectResponse) netip.Addr {
	address, err := netip.ParseAddr(found.Config.Labels[LabelHostIP])
	if err != nil {
		return loopback
	}
	return address
}

func onHost(ports []PublishedPort, hostIP netip.Addr) []PublishedPort {
	return slices.DeleteFunc(slices.Clone(ports), func(p PublishedPort) bool { return p.HostIP != hostIP })
}

// publishedPorts returns the ports that a container's host listens on.
func publishedPorts(found container.InspectResponse) []PublishedPort {
	if found.NetworkSettings == nil {
		return nil
	}
	return portList(found.NetworkSettings.Ports)
}

func portList(published nat.PortMap) []PublishedPort {
	ports := []PublishedPort{}
	for key, bindings := range published {
		for _, binding := range bindings {
			address, addressErr := netip.ParseAddr(binding.HostIP)
			number, numberErr := strconv.ParseUint(binding.HostPort, 10, 16)
			if addressErr != nil || numberErr != nil {
				continue
			}
			ports = append(ports, PublishedPort{
				HostIP:        address,
				HostPort:      uint16(number),
				ContainerPort: uint16(key.Int()),
				Protocol:      key.Proto(),
			})
		}
	}
	slices.SortFunc(ports, comparePorts)
	return ports
}

func comparePorts(a, b PublishedPort) int {
	return cmp.Or(cmp.Compare(a.ContainerPort, b.ContainerPort), cmp.Compare(a.Protocol, b.Protocol),
		a.HostIP.Compare(b.HostIP), cmp.Compare(a.HostPort, b.HostPort))
}

// describe tells what is up from the last look at it.
func describe(r request, found container.InspectResponse, place placement) *Bundle {
	return &Bundle{
		Slug:        r.Slug,
		Container:   ContainerName(r.Slug),
		ContainerID: found.ID,
		Network:     NetworkName(r.Slug),
		NetworkID:   place.networkID,
		Image:       found.Config.Image,
		ImageID:     r.imageID,
		Subnet:      place.subnet,
		Gateway:     place.gateway,
		Address:     place.address,
		HostIP:      hostIPOf(found),
		Daemons:     daemonsOf(found),
		Ports:       publishedPorts(found),
		Health:      health(found),
	}
}

// daemonsOf returns the daemons that a bundle was told to start.
func daemonsOf(found container.InspectResponse) []string {
	for _, entry := range slices.Backward(found.Config.Env) {
		if name, value, _ := strings.Cut(entry, "="); name == DaemonsVariable {
			return SplitList(value)
		}
	}
	return nil
}
