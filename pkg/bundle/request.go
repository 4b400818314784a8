package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
)

// request is a spec with every default filled in that the image and the caller's
// environment provide: what the container is made from, except for its address.
type request struct {
	Spec
	imageRef string
	imageID  string
	daemons  []string
	env      []string // KEY=VALUE, or KEY alone where the variable is to be unset
	unset    []string // bare variables that the caller's environment does not have
	ports    []Port
	image    image.InspectResponse
}

// loopback is where ports are published when nothing says otherwise.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// newRequest completes a spec. The errors are those of malformed labels of the image.
func newRequest(spec Spec, found image.InspectResponse, lookupEnv func(string) (string, bool)) (request, error) {
	labels := map[string]string{}
	if found.Config != nil {
		labels = found.Config.Labels
	}
	r := request{Spec: spec, imageRef: spec.image(), imageID: found.ID, daemons: spec.Daemons, ports: spec.Ports, image: found}
	_, isDefault := classifyImage(r.imageRef)
	r.Isolation = spec.Isolation.withDefaults(isDefault)
	if len(r.daemons) == 0 {
		r.daemons = SplitList(labels[LabelDaemons])
	}
	if len(r.daemons) == 0 {
		r.daemons = defaultDaemons
	}
	if r.ports == nil {
		for _, label := range SplitList(labels[LabelPorts]) {
			port, err := ParseContainerPort(label)
			if err != nil {
				return r, &ConflictError{Object: "image " + r.imageRef, Reason: "has a label " + LabelPorts + "=" + labels[LabelPorts] + " with an " + err.Error(), Remedy: "name the ports to publish with --publish, or mend the image"}
			}
			r.ports = append(r.ports, port)
		}
	}
	if !r.HostIP.IsValid() && !r.HostIPAuto {
		r.HostIP = loopback
	}
	r.env, r.unset = resolveEnv(append([]string{DaemonsVariable + "=" + strings.Join(r.daemons, ",")}, spec.Env...), lookupEnv)
	return r, nil
}

// fixesHostPort reports whether a host port was asked for by its number.
func (r request) fixesHostPort() bool {
	return slices.ContainsFunc(r.ports, func(p Port) bool { return p.HostPort != 0 })
}

// readyText returns what the image logs when it is ready, "" where it does not say.
func (r request) readyText() string {
	if r.image.Config == nil {
		return ""
	}
	return r.image.Config.Labels[LabelReadyLog]
}

// resolveEnv gives bare names their values and drops every entry that a later one of the
// same name replaces. A bare name without a value stays, which unsets the variable if the
// image sets it, as docker run does.
func resolveEnv(entries []string, lookup func(string) (string, bool)) (env, unset []string) {
	last := make(map[string]int, len(entries))
	for i, entry := range entries {
		name, _, _ := strings.Cut(entry, "=")
		last[name] = i
	}
	for i, entry := range entries {
		name, _, hasValue := strings.Cut(entry, "=")
		if last[name] != i {
			continue
		}
		if !hasValue {
			value, found := lookup(name)
			if found {
				entry = name + "=" + value
			} else {
				unset = append(unset, name)
			}
		}
		env = append(env, entry)
	}
	return env, unset
}

// digest identifies what the container is made from, but for three things that are
// compared with the container itself: the image, the address, and the values of the
// environment. Values may be secrets, and a digest over them, lying about in a label,
// would let anybody test a guess.
func (r request) digest() string {
	fingerprint := struct {
		Image   string
		Env     []string
		Volumes []string `json:",omitempty"`
		Ports   []string `json:",omitempty"`
		HostIP  string
		Isolation
	}{Image: r.imageRef, HostIP: r.HostIP.String(), Isolation: r.Isolation}
	if r.HostIPAuto {
		fingerprint.HostIP = "auto"
	}
	for _, entry := range r.env {
		name, _, hasValue := strings.Cut(entry, "=")
		if hasValue {
			name += "="
		}
		fingerprint.Env = append(fingerprint.Env, name)
	}
	slices.Sort(fingerprint.Env)
	for _, volume := range r.Volumes {
		fingerprint.Volumes = append(fingerprint.Volumes, volume.bind())
	}
	for _, port := range r.ports {
		binding := port.binding(r.HostIP)
		fingerprint.Ports = append(fingerprint.Ports, binding.HostIP+":"+binding.HostPort+":"+port.Key())
	}
	encoded, err := json.Marshal(fingerprint)
	if err != nil {
		panic(err) // strings always marshal
	}
	sum := sha256.Sum256(encoded)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// container returns what an engine of that API version is asked to create for the bundle
// at an address.
func (r request) container(address, hostIP netip.Addr, apiVersion string) (*container.Config, *container.HostConfig, *network.NetworkingConfig) {
	config := &container.Config{
		Image: r.imageRef,
		Env:   r.env,
		Labels: map[string]string{
			LabelSlug:    r.Slug,
			LabelSpec:    r.digest(),
			LabelImageID: r.imageID,
			LabelHostIP:  hostIP.String(),
		},
		Healthcheck: quickHealth(r.image, apiVersion),
	}
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(NetworkName(r.Slug)),
	}
	r.Isolation.apply(config, host)
	for _, volume := range r.Volumes {
		host.Binds = append(host.Binds, volume.bind())
	}
	if len(r.ports) > 0 {
		config.ExposedPorts = nat.PortSet{}
		host.PortBindings = nat.PortMap{}
	}
	for _, port := range r.ports {
		key := nat.Port(port.Key())
		config.ExposedPorts[key] = struct{}{}
		if binding := port.binding(hostIP); !slices.Contains(host.PortBindings[key], binding) {
			host.PortBindings[key] = append(host.PortBindings[key], binding)
		}
	}
	networking := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
		NetworkName(r.Slug): {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: address.String()}},
	}}
	return config, host, networking
}

// matches reports whether a container of the bundle's name was made from this request.
// Containers of the reference tool carry no label; what they were started with is
// compared instead.
func (r request) matches(found container.InspectResponse) bool {
	for _, entry := range r.env {
		if strings.Contains(entry, "=") && !slices.Contains(found.Config.Env, entry) {
			return false
		}
	}
	if digest, labelled := found.Config.Labels[LabelSpec]; labelled {
		return digest == r.digest() && found.Config.Labels[LabelImageID] == r.imageID
	}
	_, host, _ := r.container(netip.Addr{}, r.HostIP, "")
	return found.Image == r.imageID && found.Config.Image == r.imageRef &&
		slices.Equal(found.HostConfig.Binds, host.Binds) && samePorts(found.HostConfig.PortBindings, host.PortBindings)
}

func samePorts(a, b nat.PortMap) bool {
	if len(a) != len(b) {
		return false
	}
	for port, bindings := range a {
		if !slices.Equal(bindings, b[port]) {
			return false
		}
	}
	return true
}
