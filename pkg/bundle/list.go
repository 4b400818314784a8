package bundle

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
)

// Summary is one bottle in a listing.
type Summary struct {
	Slug    string
	State   string // the container's: "running", "exited", …; "" where only the network is there
	Status  string // the same in words: "Up 5 minutes (healthy)"
	Image   string
	Address netip.Addr
	Subnet  netip.Prefix
	Ports   []PublishedPort
}

// List returns every bottle that the engine has anything of, ordered by slug. Objects
// count by their labels or, for those that the reference tool made, by their names.
func (l *Lifecycle) List(ctx context.Context) ([]Summary, error) {
	containers, err := l.Engine.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("name", "^/"+containerPrefix))})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	networks, err := l.Engine.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("name", networkPrefix))})
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	bottles := map[string]Summary{}
	for _, n := range networks {
		if slug, ok := strings.CutPrefix(n.Name, networkPrefix); ok && CheckSlug(slug) == nil {
			subnet, _ := addressing(n)
			bottles[slug] = Summary{Slug: slug, Subnet: subnet}
		}
	}
	for _, c := range containers {
		slug, ok := summarySlug(c)
		if !ok {
			continue
		}
		bottle := bottles[slug]
		bottle.Slug, bottle.State, bottle.Status, bottle.Image = slug, c.State, c.Status, c.Image
		bottle.Ports = summaryPorts(c.Ports)
		if c.NetworkSettings != nil {
			if e := c.NetworkSettings.Networks[NetworkName(slug)]; e != nil {
				bottle.Address, _ = netip.ParseAddr(e.IPAddress)
			}
		}
		bottles[slug] = bottle
	}
	return slices.SortedFunc(maps.Values(bottles), func(a, b Summary) int { return cmp.Compare(a.Slug, b.Slug) }), nil
}

func summarySlug(c container.Summary) (string, bool) {
	for _, name := range c.Names {
		if slug, ok := strings.CutPrefix(strings.TrimPrefix(name, "/"), containerPrefix); ok && CheckSlug(slug) == nil {
			return slug, true
		}
	}
	return "", false
}

func summaryPorts(ports []container.Port) []PublishedPort {
	published := []PublishedPort{}
	for _, p := range ports {
		if address, err := netip.ParseAddr(p.IP); err == nil && p.PublicPort != 0 {
			published = append(published, PublishedPort{HostIP: address, HostPort: p.PublicPort, ContainerPort: p.PrivatePort, Protocol: p.Type})
		}
	}
	slices.SortFunc(published, comparePorts)
	return published
}
