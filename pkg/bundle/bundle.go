package bundle

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sync/singleflight"
)

// cleanupTimeout bounds what is done after a call failed or was cancelled, which must not
// depend on the call's own deadline.
const cleanupTimeout = 30 * time.Second

// Lifecycle brings bundles up and down on one engine. Set the fields before the first
// call and leave them; the methods may be called concurrently.
type Lifecycle struct {
	// Engine is required; a *client.Client of the official module is one.
	Engine Engine

	// Local says that the engine runs on this machine, with this file system and these
	// routes: then bind sources are checked to exist and the host's routes are avoided.
	// [IsLocal] tells it from an engine's address.
	Local bool

	// LookupEnv finds the value of a bare KEY of [Spec.Env]. Default: os.LookupEnv.
	LookupEnv func(key string) (string, bool)

	// BuildContext gives the build context of the default bundle for an architecture, in
	// Go's names ("amd64", "arm64"). Without it, [DefaultImage] has to exist.
	BuildContext func(arch string) (fs.FS, error)

	// RegistryAuth gives the encoded credentials for pulling an image, as the engine's
	// X-Registry-Auth header has them. Without it, pulls are anonymous.
	RegistryAuth func(ctx context.Context, image string) (string, error)

	// Progress, when set, is called with every event, one at a time per bottle; it must
	// not block for long.
	Progress func(Event)

	images singleflight.Group
}

// Bundle is a bundle that is up. Its JSON form is part of the command line's contract.
type Bundle struct {
	Slug        string
	Container   string
	ContainerID string
	Network     string
	NetworkID   string
	Image       string
	ImageID     string
	Subnet      netip.Prefix
	Gateway     netip.Addr
	Address     netip.Addr
	HostIP      netip.Addr // where its ports are published unless one says otherwise
	Daemons     []string
	Ports       []PublishedPort
	Health      string // "healthy", "starting", "unhealthy", or "" without a health check
}

// PublishedPort is a container port and where the host reaches it.
type PublishedPort struct {
	HostIP        netip.Addr
	HostPort      uint16
	ContainerPort uint16
	Protocol      string // "tcp", "udp" or "sctp"
}

// HostAddress returns the port's address on the host, such as "127.0.0.16:54321" or
// "[::1]:54321".
func (p PublishedPort) HostAddress() string {
	return net.JoinHostPort(p.HostIP.String(), strconv.Itoa(int(p.HostPort)))
}

// Key returns port and protocol as the engine writes them, such as "3128/tcp".
func (p PublishedPort) Key() string {
	return Port{ContainerPort: p.ContainerPort, Protocol: p.Protocol}.Key()
}

// String returns the port as docker ps shows it, such as "127.0.0.1:54321->3128/tcp".
func (p PublishedPort) String() string {
	return fmt.Sprintf("%s->%s", p.HostAddress(), p.Key())
}

func (l *Lifecycle) lookupEnv(key string) (string, bool) {
	if l.LookupEnv != nil {
		return l.LookupEnv(key)
	}
	return os.LookupEnv(key)
}

// effect runs a request that changes the engine. A cancelled request may take effect after
// the client has hung up, when nobody is there to clean up after it; so the answer is
// waited for, for a bounded time, and what it brought is known.
func effect(ctx context.Context, request func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(cleanupTimeout, cancel) })()
	return request(lasting)
}

// cleanupContext returns a context that goes on after ctx has ended, for a bounded time.
func cleanupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
}
