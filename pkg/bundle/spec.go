package bundle

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/docker/go-connections/nat"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

// defaultDaemons are started in a bundle whose image does not say which daemons it has.
var defaultDaemons = []string{"egress", "pipelock"}

// Spec says what a bottle's bundle should be. Only the slug is required; the zero value of
// everything else means the default that its comment names.
type Spec struct {
	// Slug names the bottle, see [CheckSlug].
	Slug string

	// Image is a reference of the bundle's image. Default: [DefaultImage].
	Image string

	// Daemons are started in the bundle. Default: those that the image's [LabelDaemons]
	// names, or else egress and pipelock.
	Daemons []string

	// Env holds KEY=VALUE, or a bare KEY that takes its value from the environment of
	// the caller ([Lifecycle.LookupEnv]). A later entry of a name replaces an earlier.
	Env []string

	// Volumes are bind mounts.
	Volumes []Volume

	// Ports are published on the host. Nil: those that the image's [LabelPorts] names;
	// empty and not nil: none.
	Ports []Port

	// HostIP is the host address of the ports that name none themselves. Default:
	// 127.0.0.1.
	HostIP netip.Addr

	// HostIPAuto publishes on a loopback address of the bottle's own, derived from its
	// slug, see [netalloc.LoopbackOrder]. It excludes HostIP.
	HostIPAuto bool

	// Pool is where the bottle's subnet is taken from. Default: [netalloc.DefaultPool].
	Pool netalloc.Pool

	// Subnet, when valid, is used instead of one from the pool.
	Subnet netip.Prefix

	// Gateway is the network's gateway. Default: host number 1 of the subnet.
	Gateway netip.Addr

	// Address is the bundle's own. Default: host number 2 of the subnet.
	Address netip.Addr

	// Isolation limits the container.
	Isolation Isolation
}

// Volume is a directory or file of the engine's host, mounted into the bundle.
type Volume struct {
	Source   string // absolute path on the host
	Target   string // absolute path in the container
	ReadOnly bool
	// Options are further mount options as after the second colon of docker run's -v,
	// such as "z" or "rslave".
	Options []string
}

// bind returns the volume in the form of the engine's HostConfig.Binds.
func (v Volume) bind() string {
	options := slices.Clone(v.Options)
	if v.ReadOnly {
		options = slices.Insert(options, 0, "ro")
	}
	if len(options) == 0 {
		return v.Source + ":" + v.Target
	}
	return v.Source + ":" + v.Target + ":" + strings.Join(options, ",")
}

// Port is a container port to publish.
type Port struct {
	ContainerPort uint16
	Protocol      string // "tcp", "udp" or "sctp"; default "tcp"
	// HostIP is the address to publish on. Default: the spec's.
	HostIP netip.Addr
	// HostPort is the port on the host; 0 lets the engine choose one. HostPortEnd, when
	// greater, makes it a range for the engine to choose from.
	HostPort    uint16
	HostPortEnd uint16
}

// Key returns port and protocol as the engine writes them, such as "3128/tcp".
func (p Port) Key() string {
	protocol := p.Protocol
	if protocol == "" {
		protocol = "tcp"
	}
	return fmt.Sprintf("%d/%s", p.ContainerPort, protocol)
}

func (p Port) binding(fallback netip.Addr) nat.PortBinding {
	binding := nat.PortBinding{HostIP: fallback.String()}
	if p.HostIP.IsValid() {
		binding.HostIP = p.HostIP.String()
	}
	switch {
	case p.HostPortEnd > p.HostPort:
		binding.HostPort = fmt.Sprintf("%d-%d", p.HostPort, p.HostPortEnd)
	case p.HostPort != 0:
		binding.HostPort = fmt.Sprint(p.HostPort)
	}
	return binding
}

// Check returns nil for a usable spec and an [*InvalidError] or a *netalloc.SubnetError
// that names the first thing wrong with it. It asks the engine nothing.
func (s Spec) Check() error {
	if err := CheckSlug(s.Slug); err != nil {
		return err
	}
	for _, daemon := range s.Daemons {
		if daemon == "" || strings.ContainsAny(daemon, ", \t\n=") {
			return &InvalidError{Field: "daemon", Value: daemon, Reason: "a daemon's name is not empty and has no comma, space or '='"}
		}
	}
	for _, entry := range s.Env {
		name, _, _ := strings.Cut(entry, "=")
		if name == "" {
			// The value may be a secret even where the name is missing.
			return &InvalidError{Field: "environment variable", Value: "=…", Reason: "the name before '=' is empty"}
		}
		if strings.ContainsRune(entry, 0) {
			return &InvalidError{Field: "environment variable", Value: name, Reason: "it contains a NUL byte"}
		}
	}
	for _, volume := range s.Volumes {
		if err := volume.check(); err != nil {
			return err
		}
	}
	for _, port := range s.Ports {
		if err := port.check(); err != nil {
			return err
		}
	}
	if s.HostIPAuto && s.HostIP.IsValid() {
		return &InvalidError{Field: "host IP", Value: s.HostIP.String(), Reason: "it excludes an address chosen from the slug"}
	}
	if err := s.Isolation.check(); err != nil {
		return err
	}
	return s.checkAddresses()
}

func (s Spec) checkAddresses() error {
	if !s.Subnet.IsValid() {
		return nil
	}
	if err := netalloc.Check(s.Subnet); err != nil {
		return err
	}
	return checkPlacement(s.Subnet, s.gatewayIn(s.Subnet), s.addressIn(s.Subnet))
}

// checkPlacement says whether the bundle can have address in a subnet with that gateway.
func checkPlacement(subnet netip.Prefix, gateway, address netip.Addr) error {
	if err := checkHost("gateway", subnet, gateway); err != nil {
		return err
	}
	if err := checkHost("IP address", subnet, address); err != nil {
		return err
	}
	if gateway == address {
		return &InvalidError{Field: "IP address", Value: address.String(), Reason: "it is the gateway's; the bundle needs one of its own"}
	}
	return nil
}

func checkHost(field string, subnet netip.Prefix, address netip.Addr) error {
	invalid := func(reason string) error {
		return &InvalidError{Field: field, Value: address.String(), Reason: reason}
	}
	switch {
	case !subnet.Contains(address):
		return invalid("it is outside of subnet " + subnet.String())
	case address == subnet.Addr():
		return invalid("it is the address of network " + subnet.String() + " itself")
	case !subnet.Contains(address.Next()):
		return invalid("it is the broadcast address of subnet " + subnet.String())
	}
	return nil
}

func (s Spec) gatewayIn(subnet netip.Prefix) netip.Addr {
	if s.Gateway.IsValid() {
		return s.Gateway
	}
	return netalloc.Gateway(subnet)
}

func (s Spec) addressIn(subnet netip.Prefix) netip.Addr {
	if s.Address.IsValid() {
		return s.Address
	}
	return netalloc.Bundle(subnet)
}

func (s Spec) image() string {
	if s.Image == "" {
		return DefaultImage
	}
	return s.Image
}

func (s Spec) pool() netalloc.Pool {
	if s.Pool.Len() == 0 {
		return netalloc.DefaultPool()
	}
	return s.Pool
}

func (v Volume) check() error {
	switch {
	case v.Source == "" || v.Target == "":
		return &InvalidError{Field: "volume", Value: v.bind(), Reason: "both a host path and a container path are needed"}
	case !path.IsAbs(v.Target):
		return &InvalidError{Field: "volume", Value: v.bind(), Reason: fmt.Sprintf("container path %q is not absolute", v.Target)}
	case path.Clean(v.Target) == "/":
		return &InvalidError{Field: "volume", Value: v.bind(), Reason: "the container's root can't be a mount point"}
	}
	return nil
}

func (p Port) check() error {
	if p.ContainerPort == 0 {
		return &InvalidError{Field: "port", Value: p.Key(), Reason: "a container port is a number from 1 to 65535"}
	}
	switch p.Protocol {
	case "", "tcp", "udp", "sctp":
	default:
		return &InvalidError{Field: "port", Value: p.Key(), Reason: "the protocol is one of tcp, udp and sctp"}
	}
	if p.HostPortEnd != 0 && p.HostPortEnd < p.HostPort {
		return &InvalidError{Field: "port", Value: p.Key(), Reason: fmt.Sprintf("host port range %d-%d runs backwards", p.HostPort, p.HostPortEnd)}
	}
	return nil
}
