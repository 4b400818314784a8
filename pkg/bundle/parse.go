package bundle

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-connections/nat"
)

// ParsePort reads a port in the forms of docker run's --publish:
//
//	[[HOST-IP:][HOST-PORT]:]CONTAINER-PORT[/PROTOCOL]
//
// Ports may be ranges; a range of container ports gives several ports. Unlike docker run,
// a port alone is published too, on a host port that the engine chooses. Errors are
// [*InvalidError].
func ParsePort(s string) ([]Port, error) {
	invalid := func(reason string) error {
		return &InvalidError{Field: "port", Value: s, Reason: reason}
	}
	mappings, err := nat.ParsePortSpec(s)
	if err != nil {
		return nil, invalid(err.Error() + "; want [[HOST-IP:][HOST-PORT]:]PORT[/tcp|udp|sctp], ports from 1 to 65535")
	}
	ports := make([]Port, 0, len(mappings))
	for _, mapping := range mappings {
		number, err := parsePortNumber(mapping.Port.Port())
		if err != nil {
			return nil, invalid(err.Error())
		}
		port := Port{ContainerPort: number, Protocol: mapping.Port.Proto()}
		if mapping.Binding.HostIP != "" {
			if port.HostIP, err = netip.ParseAddr(mapping.Binding.HostIP); err != nil {
				return nil, invalid(err.Error())
			}
		}
		if first, last, isRange := strings.Cut(mapping.Binding.HostPort, "-"); first != "" {
			// "0:80" asks docker run for any port, as leaving it out does.
			if first != "0" || isRange {
				if port.HostPort, err = parsePortNumber(first); err != nil {
					return nil, invalid("host " + err.Error())
				}
			}
			if isRange {
				if port.HostPortEnd, err = parsePortNumber(last); err != nil {
					return nil, invalid("host " + err.Error())
				}
			}
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func parsePortNumber(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %s is not a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// ParseContainerPort reads PORT[/PROTOCOL], the protocol being tcp unless given. Errors
// are [*InvalidError].
func ParseContainerPort(s string) (Port, error) {
	number, protocol, found := strings.Cut(s, "/")
	if !found {
		protocol = "tcp"
	}
	n, err := parsePortNumber(number)
	if err != nil {
		return Port{}, &InvalidError{Field: "port", Value: s, Reason: err.Error() + "; want PORT[/tcp|udp|sctp]"}
	}
	port := Port{ContainerPort: n, Protocol: strings.ToLower(protocol)}
	if found && protocol == "" {
		return Port{}, &InvalidError{Field: "port", Value: s, Reason: "the protocol after '/' is missing"}
	}
	return port, port.check()
}

// ParseVolume reads a bind mount in the form of docker run's --volume:
//
//	HOST-PATH:CONTAINER-PATH[:OPTION,...]
//
// with both paths absolute. Named and anonymous volumes are refused, since they would
// outlive the bundle. Errors are [*InvalidError].
func ParseVolume(s string) (Volume, error) {
	invalid := func(reason string) error {
		return &InvalidError{Field: "volume", Value: s, Reason: reason + "; want HOST-PATH:CONTAINER-PATH[:ro]"}
	}
	// On Windows, a drive letter's colon is no separator.
	drive := filepath.VolumeName(s)
	parts := strings.Split(s[len(drive):], ":")
	switch {
	case len(parts) > 3:
		return Volume{}, invalid("it has too many colons")
	case len(parts) < 2:
		return Volume{}, invalid("there is no host path")
	case !filepath.IsAbs(drive + parts[0]):
		return Volume{}, invalid(fmt.Sprintf("host path %q is not absolute", parts[0]))
	}
	volume := Volume{Source: drive + parts[0], Target: parts[1]}
	if len(parts) == 3 {
		for option := range strings.SplitSeq(parts[2], ",") {
			switch {
			case option == "ro":
				volume.ReadOnly = true
			case option == "rw":
			case slices.Contains(bindOptions, option):
				volume.Options = append(volume.Options, option)
			default:
				return Volume{}, invalid(fmt.Sprintf("option %q is unknown", option))
			}
		}
	}
	return volume, volume.check()
}

// bindOptions are what the engine takes after a bind mount's second colon, besides "ro"
// and "rw": SELinux labels, propagation, and consistency, which Docker Desktop once used.
var bindOptions = []string{
	"z", "Z",
	"private", "rprivate", "shared", "rshared", "slave", "rslave",
	"consistent", "cached", "delegated",
}

// SplitList splits a comma-separated list, drops the space around its parts and the empty
// ones.
func SplitList(s string) []string {
	var parts []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}
