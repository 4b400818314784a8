package bundle

import (
	"fmt"
	"net/netip"
	"strings"
)

// InvalidError is bad input, found before the engine was asked for anything. It is an
// invalid-argument error to package errdefs.
type InvalidError struct {
	Field  string // what was given, in words: "slug", "subnet", "volume"
	Value  string // as it was given
	Reason string // what is wrong with it, and what would be right
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("invalid %s %q: %s", e.Field, e.Value, e.Reason)
}

// InvalidParameter marks the error for errdefs.IsInvalidArgument.
func (e *InvalidError) InvalidParameter() {}

// ConflictError is an object found on the engine that is in the way and that this package
// must not change: somebody else's container of the bundle's name, a network that leaves
// no place for the bundle. It is a conflict to package errdefs.
type ConflictError struct {
	Object string // kind and name: "network bot-bottle-bundle-demo"
	Reason string // what about it is in the way
	Remedy string // what to do next
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s %s: %s", e.Object, e.Reason, e.Remedy)
}

// Conflict marks the error for errdefs.IsConflict.
func (e *ConflictError) Conflict() {}

// BusyError is returned when a bottle's objects kept changing under the call, which means
// that another process brings the same bottle up or down. Trying again later is safe. It
// is a conflict to package errdefs.
type BusyError struct {
	Slug string
	Err  error // what the engine answered last
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("bottle %s: somebody else is changing this bottle, try again: %v", e.Slug, e.Err)
}

func (e *BusyError) Unwrap() error { return e.Err }

// Conflict marks the error for errdefs.IsConflict.
func (e *BusyError) Conflict() {}

// NotUpError is returned for a bottle whose bundle is not there. It is a not-found error
// to package errdefs.
type NotUpError struct {
	Slug string
}

func (e *NotUpError) Error() string {
	return fmt.Sprintf("bottle %s is not up: no such container: %s", e.Slug, ContainerName(e.Slug))
}

// NotFound marks the error for errdefs.IsNotFound.
func (e *NotUpError) NotFound() {}

// NotPublishedError is returned by a port lookup that found no binding on the expected
// host address. It is a not-found error to package errdefs.
type NotPublishedError struct {
	Slug   string
	Port   string     // "3128/tcp", or "" when any port was asked for
	HostIP netip.Addr // the address a binding was expected on
	Found  []PublishedPort
}

func (e *NotPublishedError) Error() string {
	what := "port"
	if e.Port != "" {
		what = "port " + e.Port
	}
	found := make([]string, len(e.Found))
	for i, p := range e.Found {
		found[i] = p.String()
	}
	seen := "nothing is published"
	if len(found) > 0 {
		seen = "found " + strings.Join(found, ", ")
	}
	return fmt.Sprintf("container %s: no public %s on host address %s: %s", ContainerName(e.Slug), what, e.HostIP, seen)
}

// NotFound marks the error for errdefs.IsNotFound.
func (e *NotPublishedError) NotFound() {}

// DeadError is a bundle that exited although it should run. The engine removes such a
// container at once, so the error carries what is left of it.
type DeadError struct {
	Container string
	ExitCode  int64
	OOMKilled bool // the kernel killed it for using more memory than it may
	// Log has its last lines, oldest first, with the values of its environment left out.
	// Nil: none were asked for, or they can't be had.
	Log []string
}

func (e *DeadError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "container %s exited with status %d", e.Container, e.ExitCode)
	if e.OOMKilled {
		b.WriteString(", killed for running out of memory")
	}
	if e.Log != nil && len(e.Log) == 0 {
		b.WriteString(", it logged nothing")
	}
	writeLog(&b, e.Log)
	return b.String()
}

// UnhealthyError is a bundle that runs and does not become healthy.
type UnhealthyError struct {
	Container string
	How       string   // "is unhealthy", "is not healthy after 1m0s"
	Check     string   // what the last check printed
	Log       []string // the container's last lines, as in a [DeadError]
}

func (e *UnhealthyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "container %s %s", e.Container, e.How)
	if e.Check != "" {
		fmt.Fprintf(&b, ": %s", e.Check)
	}
	writeLog(&b, e.Log)
	return b.String()
}

func writeLog(b *strings.Builder, lines []string) {
	if len(lines) == 0 {
		return
	}
	b.WriteString("; its last log lines:")
	for _, line := range lines {
		b.WriteString("\n    " + line)
	}
}
