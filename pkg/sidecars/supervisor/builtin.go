//go:build linux

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Builtin is a daemon that is part of the supervisor's own executable.
type Builtin interface {
	// Serve works until ctx is done, then finishes what it has begun, in less than
	// Limits.Grace, and returns. Before that it returns only with what made it
	// fail.
	Serve(ctx context.Context) error

	// Check returns nil when the daemon does its work, and soon: it may be called
	// every second.
	Check(ctx context.Context) error
}

// Reloader is a Builtin that can take up a changed configuration.
type Reloader interface {
	// Reload reads the configuration again. With an error, the daemon goes on with
	// the one it has.
	Reload(ctx context.Context) error
}

// Factory makes a built-in daemon from its environment, entries as os.Environ
// returns them. What the daemon has to record goes to out, a line at a time. An
// error means that the configuration is refused.
type Factory func(environ []string, out io.Writer) (Builtin, error)

// ServeBuiltin is the process of the named built-in daemon: it makes the daemon,
// serves it until SIGTERM or SIGINT, has it reload on SIGHUP and answers the
// supervisor at address (see [HealthAddress]). Errors while reloading go to
// log. The returned error is a *[RefusedError] where the factory fails.
func ServeBuiltin(name string, factory Factory, address string, out, log io.Writer) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(signals)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	defer signal.Stop(hangups)

	builtin, err := factory(os.Environ(), out)
	if err != nil {
		return &RefusedError{name, err}
	}
	listener, err := net.Listen("unix", daemonAddress(address, name))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go answerHealth(ctx, listener, func(ctx context.Context) []Status {
		return []Status{newStatus(name, builtin.Check(ctx))}
	})
	served := make(chan error, 1)
	go func() { served <- builtin.Serve(ctx) }()
	for {
		select {
		case <-hangups:
			if err := reload(ctx, builtin); err != nil {
				fmt.Fprintf(log, "SIGHUP: %v\n", err)
			}
		case <-signals:
			cancel()
			if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: stopping: %w", name, err)
			}
			return nil
		case err := <-served:
			if err == nil {
				err = errors.New("stopped without being told to")
			}
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

func reload(ctx context.Context, builtin Builtin) error {
	if r, ok := builtin.(Reloader); ok {
		return r.Reload(ctx)
	}
	return errors.New("this daemon has nothing to reload")
}

func newStatus(daemon string, err error) Status {
	if err == nil {
		return Status{Daemon: daemon}
	}
	return Status{Daemon: daemon, Problem: oneLine(err.Error())}
}
