//go:build linux

package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/thejerf/suture/v4"
	"golang.org/x/sys/unix"
)

// daemon is one daemon over all its lives. It is a suture.Service, of which
// every call of Serve is one life, and the suture.Jitter of the supervisor that
// runs it, which makes it its own backoff.
type daemon struct {
	command
	supervisor *supervisor
	reaper     *reaper
	address    string // where a built-in answers

	hangups    chan struct{} // at most one SIGHUP to be handed on
	firstReady chan struct{} // closed when it is ready for the first time

	failures []time.Time   // inside the window, used by Serve only
	backoff  time.Duration // set by Serve before it returns, for Jitter

	mu      sync.Mutex
	running *process // nil between lives
	problem string   // why it does not run
}

func newDaemon(c command, s *supervisor, r *reaper, address string) *daemon {
	return &daemon{
		command:    c,
		supervisor: s,
		reaper:     r,
		address:    address,
		hangups:    make(chan struct{}, 1),
		firstReady: make(chan struct{}),
		problem:    "is not started yet",
	}
}

func (d *daemon) String() string { return d.name }

// Jitter returns the delay before the next life, as suture asks for it.
func (d *daemon) Jitter(time.Duration) time.Duration { return d.backoff }

// hangUp has a SIGHUP sent to the process, as soon as that can take it.
func (d *daemon) hangUp() {
	select {
	case d.hangups <- struct{}{}:
	default: // one is on its way, and makes the daemon read what is there now
	}
}

// Serve runs the daemon's process until it ends or ctx is done, and decides what
// its end means.
func (d *daemon) Serve(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err := d.live(ctx)
	if ctx.Err() != nil {
		d.setStopped("is stopped")
		return ctx.Err()
	}
	log, limits := d.supervisor.log, d.supervisor.limits
	var refused *RefusedError
	if errors.As(err, &refused) {
		d.setStopped(refused.Error())
		return fatal{err}
	}
	failures := d.countFailure(time.Now())
	if failures > limits.Failures {
		d.setStopped(err.Error())
		return fatal{&GaveUpError{d.name, failures, limits.Window, err}}
	}
	d.backoff = limits.backoff(failures)
	d.setStopped(fmt.Sprintf("%v, and is to be started again", err))
	log.Printf("%s %v; restart %d of %d in %v", d.name, err, failures, limits.Failures, d.backoff)
	return err
}

// fatal is an error that ends the whole tree of supervisors.
type fatal struct{ error }

func (f fatal) Is(target error) bool { return target == suture.ErrTerminateSupervisorTree }
func (f fatal) Unwrap() error        { return f.error }

// countFailure returns the number of failures inside the window that ends now,
// this one included.
func (d *daemon) countFailure(now time.Time) int {
	d.failures = append(d.failures, now)
	for now.Sub(d.failures[0]) > d.supervisor.limits.Window {
		d.failures = d.failures[1:]
	}
	return len(d.failures)
}

// live is one life of the daemon. It returns how that ended, never nil, in words
// that follow the name of the daemon.
func (d *daemon) live(ctx context.Context) error {
	stdout, err := d.capture("stdout")
	if err != nil {
		return fmt.Errorf("could not be started: %w", err)
	}
	defer stdout.finish()
	stderr, err := d.capture("stderr")
	if err != nil {
		return fmt.Errorf("could not be started: %w", err)
	}
	defer stderr.finish()

	// What a new process reads is the newest there is.
	select {
	case <-d.hangups:
	default:
	}
	began := time.Now()
	p, err := d.reaper.start(d.path, d.argv, d.env, stdout.write, stderr.write)
	if err != nil {
		return fmt.Errorf("could not be started: %w", err)
	}
	d.setRunning(p)
	d.supervisor.log.Printf("%s started, pid %d", d.name, p.pid)

	waiting, stopWaiting := context.WithCancel(ctx)
	defer stopWaiting()
	ready := make(chan struct{})
	go d.awaitReady(waiting, ready)
	// A built-in that has not come to catch SIGHUP yet would die of it. One that
	// is not ready for long may be waiting for just that.
	hangups, settled := d.hangups, (<-chan time.Time)(nil)
	if d.builtin {
		hangups, settled = nil, time.After(d.supervisor.limits.ReadyWait)
	}
	for {
		select {
		case <-ready:
			d.supervisor.log.Printf("%s ready after %v", d.name, time.Since(began).Round(time.Millisecond))
			d.announceReady()
			ready, hangups = nil, d.hangups
		case <-settled:
			hangups = d.hangups
		case <-hangups:
			p.signal(unix.SIGHUP)
		case <-ctx.Done():
			d.stop(ctx, p)
			return ctx.Err()
		case <-p.exited:
			return d.failure(p)
		}
	}
}

// failure says what it means that the process has ended by itself.
func (d *daemon) failure(p *process) error {
	if d.builtin && p.status.ExitStatus() == ExitConfig {
		return &RefusedError{Daemon: d.name}
	}
	if err := p.err(); err != nil {
		return err
	}
	return errors.New("exited with status 0")
}

// stop ends the process with the signal that ended ctx, then with SIGKILL.
func (d *daemon) stop(ctx context.Context, p *process) {
	sig := stopSignal{unix.SIGTERM}
	errors.As(context.Cause(ctx), &sig)
	p.signalGroup(sig.Signal)
	grace := time.NewTimer(d.supervisor.limits.Grace)
	defer grace.Stop()
	select {
	case <-p.exited:
		if err := p.err(); err != nil {
			d.supervisor.log.Printf("%s stopped: it %v", d.name, err)
		} else {
			d.supervisor.log.Printf("%s stopped", d.name)
		}
	case <-grace.C:
		d.supervisor.undrained.Store(true)
		p.signalGroup(unix.SIGKILL)
		d.supervisor.log.Printf("%s did not stop within %v, killed", d.name, d.supervisor.limits.Grace)
		<-p.exited
	}
}

func (d *daemon) setRunning(p *process) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running, d.problem = p, ""
}

func (d *daemon) setStopped(problem string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running, d.problem = nil, problem
}

func (d *daemon) announceReady() {
	select {
	case <-d.firstReady:
	default:
		close(d.firstReady)
	}
}

// awaitReady closes ready when a check has succeeded. The intervals between
// checks grow, since a check may be a program.
func (d *daemon) awaitReady(ctx context.Context, ready chan<- struct{}) {
	const longest = time.Second
	for interval := 5 * time.Millisecond; ; interval = min(2*interval, longest) {
		checking, cancel := context.WithTimeout(ctx, checkTimeout)
		err := d.check(checking)
		cancel()
		if err == nil {
			close(ready)
			return
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return
		}
	}
}

// check returns nil when the daemon is healthy, and otherwise what is wrong in
// words that follow its name.
func (d *daemon) check(ctx context.Context) error {
	d.mu.Lock()
	running, problem := d.running, d.problem
	d.mu.Unlock()
	if running == nil {
		return errors.New(problem)
	}
	select {
	case <-running.exited:
		return d.failure(running)
	default:
	}
	switch {
	case d.builtin:
		return checkBuiltin(ctx, d.address)
	case len(d.health) > 0:
		return d.checkExecutable(ctx)
	}
	return nil
}

// checkExecutable runs the daemon's health check. What it writes first is part
// of the error.
func (d *daemon) checkExecutable(ctx context.Context) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	p, err := d.reaper.start(d.health[0], d.health, d.env, write, write)
	_ = write.Close()
	if err != nil {
		return err
	}
	output := make(chan []byte, 1)
	go func() { output <- readHead(read, maxCheckOutput) }()
	select {
	case <-p.exited:
		err = p.err()
	case <-ctx.Done():
		p.signalGroup(unix.SIGKILL)
		<-p.exited
		err = errors.New("did not end in time")
	}
	_ = read.SetReadDeadline(time.Now().Add(outputIdle))
	said := bytes.TrimSpace(<-output)
	switch {
	case err == nil:
		return nil
	case len(said) == 0:
		return fmt.Errorf("%s %w", d.health[0], err)
	}
	return fmt.Errorf("%s %w: %s", d.health[0], err, escape(said, unprintable))
}
