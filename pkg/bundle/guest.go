package bundle

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
)

// Guest is what a bottle's guest needs to know: the one address that it may reach, and
// the variables that send its programs there.
type Guest struct {
	Slug      string
	Address   netip.Addr
	Variables []Variable
}

// Variable is an environment variable of a guest.
type Variable struct {
	Name  string
	Value string
}

// GuestOptions modify [Lifecycle.Guest].
type GuestOptions struct {
	// Internal gives the bundle's own address and container ports, for guests on the
	// bottle's network, instead of what is published on the host.
	Internal bool
	// HostIP is the host address to look for published ports on. Default: the bundle's.
	HostIP netip.Addr
	// Endpoints say which port serves a variable, by its name, and take precedence over
	// the image's labels; see [ParseEndpoint].
	Endpoints map[string]Endpoint
}

// Endpoint is a container port that serves a guest, and the scheme of its URL.
type Endpoint struct {
	Scheme string
	Port   Port
}

// ParseEndpoint reads what a label with [LabelEnvPrefix] says:
//
//	[SCHEME:]PORT[/PROTOCOL]
//
// The scheme is http and the protocol tcp unless given. Errors are [*InvalidError].
func ParseEndpoint(s string) (Endpoint, error) {
	scheme, port, found := strings.Cut(s, ":")
	if !found {
		scheme, port = "http", s
	}
	if parsed, err := url.Parse(scheme + "://host"); err != nil || parsed.Scheme != scheme {
		return Endpoint{}, &InvalidError{Field: "endpoint", Value: s, Reason: fmt.Sprintf("%q is no URL scheme; want [SCHEME:]PORT[/PROTOCOL]", scheme)}
	}
	parsed, err := ParseContainerPort(port)
	return Endpoint{Scheme: scheme, Port: parsed}, err
}

// Guest returns what the guest of a bottle needs to know. Which port serves which
// variable is said by the labels of the bundle's image, or by the options. The proxy
// variables come in capitals and in small letters, since programs differ in which they
// read, and with NO_PROXY, so that the bundle itself is reached directly. Errors:
// [*InvalidError], [*NotUpError], [*NotPublishedError], and [*ConflictError] for an image
// whose labels are malformed or say nothing.
func (l *Lifecycle) Guest(ctx context.Context, slug string, options GuestOptions) (*Guest, error) {
	found, err := l.bundleOf(ctx, slug)
	if err != nil {
		return nil, err
	}
	endpoints, err := guestEndpoints(found, options.Endpoints)
	if err != nil {
		return nil, err
	}
	guest := &Guest{Slug: slug, Address: options.HostIP}
	if !guest.Address.IsValid() {
		guest.Address = hostIPOf(found)
	}
	if options.Internal {
		if guest.Address, err = addressOf(found, slug); err != nil {
			return nil, err
		}
	}
	published := publishedPorts(found)
	for _, name := range slices.Sorted(maps.Keys(endpoints)) {
		endpoint := endpoints[name]
		number := endpoint.Port.ContainerPort
		if !options.Internal {
			i := slices.IndexFunc(published, func(p PublishedPort) bool {
				return p.HostIP == guest.Address && p.Key() == endpoint.Port.Key()
			})
			if i < 0 {
				return nil, &NotPublishedError{Slug: slug, Port: endpoint.Port.Key(), HostIP: guest.Address, Found: published}
			}
			number = published[i].HostPort
		}
		address := url.URL{Scheme: endpoint.Scheme, Host: net.JoinHostPort(guest.Address.String(), strconv.Itoa(int(number)))}
		guest.add(name, address.String())
	}
	guest.addNoProxy()
	return guest, nil
}

// IsVariableName reports whether a guest's variable may have a name: letters, digits and
// underscores, and no digit first, so that no shell takes it for something else.
func IsVariableName(name string) bool {
	for i, r := range name {
		if r != '_' && !isAlphanumeric(r) || i == 0 && '0' <= r && r <= '9' {
			return false
		}
	}
	return name != ""
}

// guestEndpoints returns the endpoints by the name of their variable.
func guestEndpoints(found container.InspectResponse, given map[string]Endpoint) (map[string]Endpoint, error) {
	endpoints := map[string]Endpoint{}
	for label, text := range found.Config.Labels {
		name, ok := strings.CutPrefix(label, LabelEnvPrefix)
		if !ok {
			continue
		}
		endpoint, err := ParseEndpoint(text)
		if !IsVariableName(name) {
			err = &InvalidError{Field: "variable", Value: name, Reason: "a name has letters, digits and underscores only"}
		}
		if err != nil {
			return nil, &ConflictError{Object: "image " + found.Config.Image, Reason: fmt.Sprintf("has a label %s=%s with an %v", label, text, err), Remedy: "mend the image"}
		}
		endpoints[name] = endpoint
	}
	maps.Copy(endpoints, given)
	if len(endpoints) == 0 {
		return nil, &ConflictError{Object: "image " + found.Config.Image, Reason: "has no label " + LabelEnvPrefix + "NAME that says which port serves a guest", Remedy: "say it with --port NAME=PORT"}
	}
	return endpoints, nil
}

// addressOf returns a running bundle's own address in the bottle's network.
func addressOf(found container.InspectResponse, slug string) (netip.Addr, error) {
	if e := endpoint(found, slug); e != nil {
		if address, err := netip.ParseAddr(e.IPAddress); err == nil {
			return address, nil
		}
	}
	return netip.Addr{}, &ConflictError{Object: "container " + ContainerName(slug), Reason: "has no address in network " + NetworkName(slug), Remedy: "bring the bottle up again"}
}

func (g *Guest) add(name, value string) {
	g.Variables = append(g.Variables, Variable{name, value})
	if isProxyVariable(name) {
		g.Variables = append(g.Variables, Variable{strings.ToLower(name), value})
	}
}

func (g *Guest) addNoProxy() {
	has := func(match func(string) bool) bool {
		return slices.ContainsFunc(g.Variables, func(v Variable) bool { return match(v.Name) })
	}
	if !has(isProxyVariable) || has(func(name string) bool { return name == "NO_PROXY" }) {
		return
	}
	direct := []string{"localhost", "127.0.0.1", "::1"}
	if address := g.Address.String(); !slices.Contains(direct, address) {
		direct = append(direct, address)
	}
	g.Variables = append(g.Variables, Variable{"NO_PROXY", strings.Join(direct, ",")}, Variable{"no_proxy", strings.Join(direct, ",")})
	slices.SortStableFunc(g.Variables, func(a, b Variable) int {
		return cmp.Compare(strings.ToUpper(a.Name), strings.ToUpper(b.Name))
	})
}

func isProxyVariable(name string) bool {
	return name == "HTTP_PROXY" || name == "HTTPS_PROXY" || name == "ALL_PROXY"
}
