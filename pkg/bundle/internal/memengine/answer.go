package memengine

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// answer is an error that the engine reports, as the client hands it on.
type answer struct {
	class error
	text  string
}

func (a *answer) Error() string { return "Error response from daemon: " + a.text }
func (a *answer) Unwrap() error { return a.class }

func notFound(format string, args ...any) error {
	return &answer{errdefs.ErrNotFound, fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &answer{errdefs.ErrConflict, fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return &answer{errdefs.ErrInvalidArgument, fmt.Sprintf(format, args...)}
}

func denied(format string, args ...any) error {
	return &answer{errdefs.ErrPermissionDenied, fmt.Sprintf(format, args...)}
}

// Internal is the answer of an engine in trouble: status 500.
func Internal(format string, args ...any) error {
	return &answer{errdefs.ErrInternal, fmt.Sprintf(format, args...)}
}

func noContainer(ref string) error { return notFound("No such container: %s", ref) }

func noNetwork(ref string) error { return notFound("network %s not found", ref) }

func (e *Engine) overlaps() error {
	if e.release >= Docker28 {
		return denied("invalid pool request: Pool overlaps with other one on this address space")
	}
	return denied("Pool overlaps with other one on this address space")
}

func (e *Engine) ambiguous(name string, matches int) error {
	return invalid("network %s is ambiguous (%d matches found on name)", name, matches)
}

func (e *Engine) active(n *bridge) error {
	if e.release < Docker28 {
		return denied("error while removing network: network %s id %s has active endpoints", n.name, n.id)
	}
	list := ""
	for _, p := range n.endpoints {
		if list != "" {
			list += ", "
		}
		list += fmt.Sprintf("name:%q id:%q", p.name, p.id[:12])
	}
	return denied("error while removing network: network %s has active endpoints (%s)", n.name, list)
}

// unconnected words the failure to give a container its network.
func (e *Engine) unconnected(err error) error {
	a, ok := err.(*answer)
	if !ok || e.release < Docker28 {
		return err
	}
	return &answer{a.class, "failed to set up container networking: " + a.text}
}
