package bundle

import (
	"strings"

	"github.com/containerd/errdefs"
)

// Some answers of an engine differ only in their text. All matching of text is in this
// file, one function a meaning, each with a test that lists what the engines say.

// isOverlap reports whether a network was refused because its subnet overlaps another
// network's.
//
//   - Docker 20.10 to 29: 403 "… Pool overlaps with other one on this address space", or
//     403 "… conflicts with network … networks have overlapping IPv4"
//   - Podman 4: 500 "subnet … is already used on the host or by another config"
func isOverlap(err error) bool {
	switch {
	case err == nil:
		return false
	case errdefs.IsPermissionDenied(err), errdefs.IsConflict(err), errdefs.IsInvalidArgument(err):
		return strings.Contains(err.Error(), "overlap")
	case errdefs.IsInternal(err):
		return strings.Contains(err.Error(), "is already used on the host or by another config")
	}
	return false
}

// isAddressTaken reports whether a container could not start because another endpoint of
// its network has its address. A host port that is taken reads much the same ("bind:
// address already in use") and is not meant.
//
//   - Docker 20.10 to 29: 403 or 500 "… Address already in use"
func isAddressTaken(err error) bool {
	return err != nil && strings.Contains(err.Error(), "Address already in use")
}

// isEndpointTaken reports whether a container could not start because its network has an
// endpoint of the container's name already, which no other container can have.
//
//   - Docker 20.10 to 29: 403 "endpoint with name … already exists in network …"
func isEndpointTaken(err error) bool {
	return err != nil && strings.Contains(err.Error(), "endpoint with name ") && strings.Contains(err.Error(), "already exists in network")
}

// isHostPortTaken reports whether a container could not start because a port of the host
// is in use.
//
//   - Docker 20.10 to 25: 500 "driver failed programming external connectivity on endpoint
//     …: Error starting userland proxy: listen tcp4 127.0.0.1:32892: bind: address already
//     in use", or "… Bind for 127.0.0.1:8080 failed: port is already allocated"
//   - Docker 28 and 29: 500 "… failed to bind host port … address already in use"
func isHostPortTaken(err error) bool {
	return errdefs.IsInternal(err) && (strings.Contains(err.Error(), "address already in use") || strings.Contains(err.Error(), "port is already allocated"))
}

// isHostAddressMissing reports whether a container could not start because a port was to
// be published on an address that the engine's host does not have.
//
//   - Docker 20.10 to 29: 500 "… bind: cannot assign requested address"
func isHostAddressMissing(err error) bool {
	return errdefs.IsInternal(err) && strings.Contains(err.Error(), "cannot assign requested address")
}

// isUnpinnable reports whether a container could not be created or started because its
// network's subnet was chosen by the engine, which then pins no addresses in it.
//
//   - Docker 20.10, on the start, and 25 to 28, on the creation: 400 "… user specified IP
//     address is supported only when connecting to networks with user configured subnets"
//   - Engine 29 pins addresses in its own subnets, too
func isUnpinnable(err error) bool {
	return err != nil && strings.Contains(err.Error(), "user configured subnets")
}

// isOutside reports whether a container could not be created or started because its
// address is in no subnet of its network, which must have been made anew meanwhile: the
// address was checked against it before.
//
//   - Docker 20.10, on the start: 500 "Invalid address …: It does not belong to any of this
//     network's subnets"
//   - Docker 25 to 29, on either: 400 "… no configured subnet …"
func isOutside(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "does not belong to any of this network's subnets") || strings.Contains(err.Error(), "no configured subnet"))
}

// isNotPaused reports whether a container was to go on that does so already: another
// client was quicker.
//
//   - Docker 20.10 to 29: 500 "Container … is not paused"
func isNotPaused(err error) bool {
	return err != nil && strings.Contains(err.Error(), "is not paused")
}

// isEndpointActive reports whether a network could not be removed because something is
// attached to it.
//
//   - Docker 20.10 to 29: 403 "error while removing network: network … has active
//     endpoints"
func isEndpointActive(err error) bool {
	return err != nil && strings.Contains(err.Error(), "has active endpoints")
}

// isAmbiguous reports whether a name means several networks, as it does for a moment when
// two clients create one network at the same time.
//
//   - Docker 20.10: 400 "network … is ambiguous (2 matches found on name)"
func isAmbiguous(err error) bool {
	return err != nil && strings.Contains(err.Error(), "is ambiguous")
}

// isNoSession reports whether an engine refused the connection that BuildKit needs.
//
//   - engines without BuildKit, and Podman: "unable to upgrade to h2c, received 404" (the
//     client's own words); with a 500 the engine is in trouble, whatever it has
func isNoSession(err error) bool {
	return err != nil && strings.Contains(err.Error(), "unable to upgrade to") && !strings.Contains(err.Error(), "received 5")
}
