//go:build linux

package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// Status is the health of one daemon.
type Status struct {
	Daemon string `json:"daemon"`

	// Problem is what keeps the daemon from being healthy, in one line, or empty.
	Problem string `json:"problem,omitempty"`
}

// Healthy reports whether there is no problem.
func (s Status) Healthy() bool { return s.Problem == "" }

const (
	// checkTimeout bounds the check of a daemon.
	checkTimeout = 2 * time.Second

	// askTimeout bounds a question, another one being answered before it.
	askTimeout = 2 * checkTimeout

	maxAnswer = 1 << 20 // bytes
)

// HealthAddress returns the abstract Unix socket address (with a leading "@") on
// which the supervisor of the container that the caller runs in answers. It is
// derived from the container's mount namespace: containers that share a
// network namespace, as with --network host, share the abstract addresses too.
func HealthAddress() (string, error) {
	link, err := os.Readlink("/proc/self/ns/mnt") // "mnt:[4026531841]"
	if err != nil {
		return "", fmt.Errorf("address of the supervisor: %w", err)
	}
	return "@bot-bottle-sidecars/" + strings.Trim(strings.TrimPrefix(link, "mnt:"), "[]"), nil
}

// AskHealth asks the supervisor at address how its daemons are, in the order in
// which they were named.
func AskHealth(ctx context.Context, address string) ([]Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, err := io.ReadAll(io.LimitReader(conn, maxAnswer))
	if err != nil {
		return nil, err
	}
	var statuses []Status
	if err := json.Unmarshal(answer, &statuses); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", address, err)
	}
	return statuses, nil
}

// answerHealth answers on l, one caller after the other, with what check
// returns, until ctx is done. The context of check ends after checkTimeout. It
// closes l.
func answerHealth(ctx context.Context, l net.Listener, check func(context.Context) []Status) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely; the caller has given up by then.
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(askTimeout))
		checkCtx, cancel := context.WithTimeout(ctx, checkTimeout)
		// A caller that is gone does not need the answer.
		_ = json.NewEncoder(conn).Encode(check(checkCtx))
		cancel()
		_ = conn.Close()
	}
}

// daemonAddress is where a built-in daemon of the supervisor at address answers
// the supervisor's question whether it is well.
func daemonAddress(address, daemon string) string { return address + "/" + daemon }

// checkBuiltin asks a built-in daemon whether it is well.
func checkBuiltin(ctx context.Context, address string) error {
	statuses, err := AskHealth(ctx, address)
	switch {
	case err != nil:
		return fmt.Errorf("does not answer: %w", err)
	case len(statuses) != 1:
		return fmt.Errorf("answers for %d daemons", len(statuses))
	case !statuses[0].Healthy():
		return errors.New(statuses[0].Problem)
	}
	return nil
}
