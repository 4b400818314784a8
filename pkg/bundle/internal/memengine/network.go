package memengine

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
)

// pool is a subnet reserved in the engine's address management.
type pool struct{ prefix netip.Prefix }

// bridge is a network.
type bridge struct {
	id, name  string
	driver    string
	created   time.Time
	labels    map[string]string
	ipam      network.IPAM
	pool      *pool // nil without an IPv4 subnet
	pinnable  bool  // the subnet was asked for, not chosen by the engine
	gateway   netip.Addr
	dynamic   netip.Prefix
	endpoints []*port
}

// port is a container's endpoint in a network, or what a crash has left of one.
type port struct {
	id        string
	name      string // the container's
	container string // "" for a stale endpoint
	address   netip.Addr
}

// defaultPool is where subnets come from that nobody asked for.
var defaultPool = netip.MustParsePrefix("172.16.0.0/12")

func (e *Engine) createNetwork(name string, options network.CreateOptions) (network.CreateResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.named(name)) > 0 {
		return network.CreateResponse{}, conflict("network with name %s already exists", name)
	}
	e.delayCreation()
	n := &bridge{id: e.nextID(), name: name, driver: cmp.Or(options.Driver, "bridge"), created: time.Now(), labels: maps.Clone(options.Labels)}
	if err := e.reserve(n, options); err != nil {
		return network.CreateResponse{}, err
	}
	e.delayCreation()
	e.networks = append(e.networks, n)
	e.broadcast()
	return network.CreateResponse{ID: n.id}, nil
}

// delayCreation lets other clients in between two steps, where the release does.
func (e *Engine) delayCreation() {
	if e.release >= Docker28 || e.pace.NetworkCreate == 0 {
		return
	}
	e.mu.Unlock()
	time.Sleep(e.pace.NetworkCreate)
	e.mu.Lock()
}

// reserve gives a network its subnet.
func (e *Engine) reserve(n *bridge, options network.CreateOptions) error {
	n.ipam = network.IPAM{Driver: "default"}
	var config network.IPAMConfig
	if options.IPAM != nil && len(options.IPAM.Config) > 0 {
		config = options.IPAM.Config[0]
	}
	if options.EnableIPv4 != nil && !*options.EnableIPv4 {
		n.ipam.Config = []network.IPAMConfig{config}
		return nil
	}
	prefix, err := e.subnet(config.Subnet)
	if err != nil {
		return err
	}
	n.pinnable = config.Subnet != ""
	n.gateway = prefix.Addr().Next()
	if config.Gateway != "" {
		if n.gateway, err = netip.ParseAddr(config.Gateway); err != nil || !prefix.Contains(n.gateway) {
			return e.badGateway(config.Gateway, prefix)
		}
	}
	n.dynamic = prefix
	if config.IPRange != "" {
		if n.dynamic, err = netip.ParsePrefix(config.IPRange); err != nil {
			return invalid("invalid CIDR address: %s", config.IPRange)
		}
		if !prefix.Overlaps(n.dynamic) && e.release >= Docker28 {
			return invalid("invalid network config:\ninvalid ip-range %s: parent subnet %s doesn't contain ip-range", config.IPRange, prefix)
		}
	}
	n.pool = &pool{prefix}
	e.pools = append(e.pools, n.pool)
	n.ipam.Config = []network.IPAMConfig{{Subnet: prefix.String(), Gateway: config.Gateway, IPRange: config.IPRange}}
	if config.Gateway == "" && (e.release >= Docker28 || !n.pinnable) {
		n.ipam.Config[0].Gateway = n.gateway.String()
	}
	return nil
}

func (e *Engine) badGateway(gateway string, prefix netip.Prefix) error {
	if e.release < Docker28 {
		return Internal("failed to allocate gateway (%s): Requested address is out of range", gateway)
	}
	return invalid("invalid network config:\ninvalid gateway %s: parent subnet %s doesn't contain this address", gateway, prefix)
}

// subnet returns the prefix to reserve: the one asked for, or the next free one.
func (e *Engine) subnet(asked string) (netip.Prefix, error) {
	taken := func(prefix netip.Prefix) bool {
		return slices.ContainsFunc(e.pools, func(p *pool) bool { return p.prefix.Overlaps(prefix) })
	}
	if asked != "" {
		prefix, err := netip.ParsePrefix(asked)
		if err != nil {
			return prefix, invalid("invalid CIDR address: %s", asked)
		}
		if taken(prefix) {
			return prefix, e.overlaps()
		}
		return prefix, nil
	}
	for second := 17; second < 32; second++ {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(second)}), 16)
		if defaultPool.Contains(prefix.Addr()) && !taken(prefix) {
			return prefix, nil
		}
	}
	return netip.Prefix{}, notFound("could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network")
}

func (e *Engine) named(name string) []*bridge {
	var found []*bridge
	for _, n := range e.networks {
		if n.name == name {
			found = append(found, n)
		}
	}
	return found
}

// network finds a network by its ID, the beginning of it, or its name.
func (e *Engine) network(ref string) (*bridge, error) {
	for _, n := range e.networks {
		if n.id == ref {
			return n, nil
		}
	}
	switch found := e.named(ref); len(found) {
	case 0:
	case 1:
		return found[0], nil
	default:
		return nil, e.ambiguous(ref, len(found))
	}
	for _, n := range e.networks {
		if len(ref) >= 12 && strings.HasPrefix(n.id, ref) {
			return n, nil
		}
	}
	return nil, noNetwork(ref)
}

func (e *Engine) inspectNetwork(ref string) (network.Inspect, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.network(ref)
	if err != nil {
		return network.Inspect{}, err
	}
	described := n.summary()
	for _, p := range n.endpoints {
		key := p.container
		if key == "" {
			key = "ep-" + p.id
		}
		resource := network.EndpointResource{Name: p.name, EndpointID: p.id}
		if p.address.IsValid() {
			resource.IPv4Address = netip.PrefixFrom(p.address, n.pool.prefix.Bits()).String()
		}
		described.Containers[key] = resource
	}
	return described, nil
}

func (e *Engine) listNetworks(args filters.Args) []network.Summary {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []network.Summary{}
	for _, n := range e.networks {
		if args.Contains("name") && !args.Match("name", n.name) {
			continue
		}
		list = append(list, n.summary())
	}
	return list
}

func (n *bridge) summary() network.Inspect {
	ipam := n.ipam
	ipam.Config = slices.Clone(ipam.Config)
	return network.Inspect{
		ID: n.id, Name: n.name, Created: n.created, Scope: "local", Driver: n.driver,
		IPAM: ipam, Labels: maps.Clone(n.labels), Containers: map[string]network.EndpointResource{},
	}
}

func (e *Engine) removeNetwork(ref string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.network(ref)
	if err != nil {
		return err
	}
	if len(n.endpoints) > 0 {
		return e.active(n)
	}
	e.networks = slices.DeleteFunc(e.networks, func(other *bridge) bool { return other == n })
	e.pools = slices.DeleteFunc(e.pools, func(p *pool) bool { return p == n.pool })
	e.broadcast()
	return nil
}

func (e *Engine) disconnect(ref, name string, force bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.network(ref)
	if err != nil {
		return err
	}
	c := e.container(name)
	if c == nil && !force {
		return noContainer(name)
	}
	if c != nil {
		if _, asked := c.networks[n.name]; !asked {
			return denied("container %s is not connected to network %s", c.id, n.name)
		}
		delete(c.networks, n.name)
		n.endpoints = slices.DeleteFunc(n.endpoints, func(p *port) bool { return p.container == c.id })
		e.broadcast()
		return nil
	}
	for i, p := range n.endpoints {
		if p.name == strings.TrimPrefix(name, "/") {
			n.endpoints = slices.Delete(n.endpoints, i, i+1)
			e.broadcast()
			return nil
		}
	}
	return notFound("endpoint %s not found", name)
}

// LeaveEndpoint puts an endpoint without a container into a network, as an engine that
// crashed leaves it.
func (e *Engine) LeaveEndpoint(ref, name string, address netip.Addr) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.network(ref)
	if err != nil {
		return err
	}
	n.endpoints = append(n.endpoints, &port{id: e.nextID(), name: name, address: address})
	return nil
}

// DuplicateNetwork creates a network whatever others have its name, as two clients of
// [Docker20] can at one moment.
func (e *Engine) DuplicateNetwork(name string, options network.CreateOptions) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := &bridge{id: e.nextID(), name: name, driver: "bridge", created: time.Now(), labels: maps.Clone(options.Labels)}
	if err := e.reserve(n, options); err != nil {
		return "", err
	}
	e.networks = append(e.networks, n)
	return n.id, nil
}

// attach gives a container its endpoint in a network, at a pinned address or at the next
// dynamic one.
func (e *Engine) attach(n *bridge, c *box, pinned string) (*port, error) {
	free := func(address netip.Addr) bool {
		return address != n.gateway && !slices.ContainsFunc(n.endpoints, func(p *port) bool { return p.address == address })
	}
	if slices.ContainsFunc(n.endpoints, func(p *port) bool { return p.name == c.name }) {
		return nil, denied("endpoint with name %s already exists in network %s", c.name, n.name)
	}
	p := &port{id: e.nextID(), name: c.name, container: c.id}
	switch {
	case n.pool == nil:
	case pinned != "":
		if err := e.checkPin(n, pinned); err != nil {
			return nil, err
		}
		p.address = netip.MustParseAddr(pinned)
		if !free(p.address) {
			return nil, denied("Address already in use")
		}
	default:
		p.address = n.dynamic.Addr()
		for !free(p.address) || p.address == n.pool.prefix.Addr() {
			p.address = p.address.Next()
		}
		if !n.dynamic.Contains(p.address) || !n.dynamic.Contains(p.address.Next()) {
			return nil, Internal("no available IPv4 addresses on this network's address pools: %s (%s)", n.name, n.id)
		}
	}
	n.endpoints = append(n.endpoints, p)
	return p, nil
}

// checkPin says whether a network can pin an address, free or not. Releases after
// [Docker20] ask it when a container is created already.
func (e *Engine) checkPin(n *bridge, pinned string) error {
	address, err := netip.ParseAddr(pinned)
	if err != nil {
		return invalid("invalid IPv4 address: %s", pinned)
	}
	inside := n.pool != nil && n.pool.prefix.Contains(address)
	settings := fmt.Sprintf("invalid config for network %s: invalid endpoint settings:\n", n.name)
	switch {
	case e.release == Docker20 && !n.pinnable:
		return invalid("%s", unpinnable)
	case e.release == Docker20 && !inside:
		return Internal("Invalid address %s: It does not belong to any of this network's subnets", pinned)
	case e.release == Docker28 && !n.pinnable:
		return invalid("%s%s", settings, unpinnable)
	case e.release == Docker28 && !inside:
		return invalid("%sno configured subnet or ip-range contain the IP address %s", settings, pinned)
	case !inside:
		return invalid("%sno configured subnet contains IP address %s", settings, pinned)
	}
	return nil
}

const unpinnable = "user specified IP address is supported only when connecting to networks with user configured subnets"
