//go:build linux

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thejerf/suture/v4"
	"golang.org/x/sys/unix"
)

// Options are what a supervisor works with.
type Options struct {
	Daemons  []string           // names in the order in which they start, see Config
	Builtins map[string]Factory // by name
	Dir      string             // of the executables: DaemonDir
	Address  string             // of the health socket: HealthAddress
	Log      *Log
	Limits   Limits
}

// Limits bounds what a supervisor does about failures, and how long it waits.
// A field that is zero means what its comment says.
type Limits struct {
	Backoff    time.Duration // before a daemon is started again, doubled with every failure: 200 ms
	MaxBackoff time.Duration // what Backoff grows to: 5 s
	Failures   int           // after which a daemon is started again, within Window: 5
	Window     time.Duration // 1 minute
	ReadyWait  time.Duration // for a daemon before the next is started: 3 s
	Grace      time.Duration // for a daemon to stop, then it is killed: 8 s
}

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&l.Backoff, 200*time.Millisecond)
	set(&l.MaxBackoff, 5*time.Second)
	set(&l.Window, time.Minute)
	set(&l.ReadyWait, 3*time.Second)
	set(&l.Grace, 8*time.Second)
	if l.Failures == 0 {
		l.Failures = 5
	}
	return l
}

// backoff returns the delay after so many failures.
func (l Limits) backoff(failures int) time.Duration {
	delay := l.Backoff
	for range failures - 1 {
		if delay >= l.MaxBackoff {
			break
		}
		delay *= 2
	}
	return min(delay, l.MaxBackoff)
}

// killMargin is how long after Limits.Grace the supervisor returns at the
// latest, with what was killed and what could not be: a process that is stuck in
// the kernel does not hold up the end of PID 1, which takes all with it.
const killMargin = time.Second

// Run starts the daemons and supervises them until SIGTERM or SIGINT, which it
// catches itself. It returns nil when all of them have stopped as told, and
// otherwise logs and returns an error that [ExitStatus] knows. It is called once
// in a process, which must not wait for children by itself.
func Run(o Options) error {
	err := run(o)
	if err != nil {
		writeLast(o.Log, err)
	}
	return err
}

func run(o Options) error {
	s := &supervisor{log: o.Log, limits: o.Limits.withDefaults()}

	// Before anything else: a PID 1 that has not asked for a signal would die of
	// it, and a log that nobody reads any more is no reason to stop.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer signal.Stop(signals)
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, unix.SIGPIPE)
	defer signal.Stop(broken)

	commands, err := findCommands(o.Daemons, o.Builtins, o.Dir)
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", o.Address)
	if err != nil {
		return fmt.Errorf("health socket: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("reaping orphans: %w", err)
	}

	background, stopBackground := context.WithCancel(context.Background())
	defer stopBackground()
	reaper := newReaper()
	go reaper.run(background)
	for _, c := range commands {
		s.daemons = append(s.daemons, newDaemon(c, s, reaper, daemonAddress(o.Address, c.name)))
	}
	go answerHealth(background, listener, s.health)

	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	go s.handle(signals, stop)
	return s.supervise(ctx)
}

type supervisor struct {
	log       *Log
	limits    Limits
	daemons   []*daemon
	undrained atomic.Bool // a daemon had to be killed
}

// stopSignal is the cause of a context that ended because the supervisor got
// this signal.
type stopSignal struct{ unix.Signal }

func (s stopSignal) Error() string { return unix.SignalName(s.Signal) }

func (s *supervisor) handle(signals <-chan os.Signal, stop context.CancelCauseFunc) {
	for sig := range signals {
		number := sig.(unix.Signal)
		if number == unix.SIGHUP {
			for _, d := range s.daemons {
				d.hangUp()
			}
		} else {
			stop(stopSignal{number})
		}
		// Last: a log driver that does not take the line must not keep the bundle
		// from stopping.
		s.log.Printf("received %s", unix.SignalName(number))
	}
}

// supervise runs the daemons below a tree of suture supervisors: one for each
// daemon, for they fail and back off on their own, and one above them.
func (s *supervisor) supervise(ctx context.Context) error {
	spec := suture.Spec{EventHook: s.event, Timeout: s.limits.Grace + killMargin/2}
	root := suture.New(selfName, spec)
	ended := root.ServeBackground(ctx)
	starting, stopStarting := context.WithCancel(ctx)
	defer stopStarting()
	go s.startInOrder(starting, root, spec)

	select {
	case err := <-ended:
		return s.outcome(ctx, err)
	case <-ctx.Done():
	}
	atMost := s.limits.Grace + killMargin
	select {
	case err := <-ended:
		return s.outcome(ctx, err)
	case <-time.After(atMost):
		return fmt.Errorf("stopping took longer than %v", atMost)
	}
}

// outcome turns the error of the suture tree into that of Run.
func (s *supervisor) outcome(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil, errors.Is(err, suture.ErrTerminateSupervisorTree):
		return err
	case s.undrained.Load():
		return ErrUndrained
	}
	return nil
}

// ReadyText is logged when all daemons have become ready for the first time. The image's
// label bot-bottle.ready-log says the same, so that whoever starts a bundle can tell from
// its output that it is up.
const ReadyText = "all daemons ready"

// startInOrder adds the daemons to root one by one.
func (s *supervisor) startInOrder(ctx context.Context, root *suture.Supervisor, spec suture.Spec) {
	late := false
	for _, d := range s.daemons {
		// Every failure is above this threshold, and makes the supervisor of this
		// daemon wait for as long as the daemon says.
		spec.FailureThreshold = 0.5
		spec.FailureBackoff = s.limits.Backoff
		spec.BackoffJitter = d
		own := suture.New(d.name, spec)
		own.Add(d)
		root.Add(own)
		select {
		case <-d.firstReady:
		case <-ctx.Done():
			return
		case <-time.After(s.limits.ReadyWait):
			s.log.Printf("%s is not ready after %v", d.name, s.limits.ReadyWait)
			late = true
		}
	}
	if !late {
		s.log.Printf(ReadyText)
	}
}

// event logs what suture has to say and the daemons have not logged themselves.
func (s *supervisor) event(e suture.Event) {
	switch e := e.(type) {
	case suture.EventServicePanic:
		s.log.Printf("%s: panic: %s: %s", e.ServiceName, e.PanicMsg, e.Stacktrace)
	case suture.EventStopTimeout:
		s.log.Printf("%s could not be stopped", e.ServiceName)
	}
}

// health checks all daemons at once.
func (s *supervisor) health(ctx context.Context) []Status {
	statuses := make([]Status, len(s.daemons))
	var wg sync.WaitGroup
	for i, d := range s.daemons {
		wg.Go(func() { statuses[i] = newStatus(d.name, d.check(ctx)) })
	}
	wg.Wait()
	return statuses
}

// writeLast writes err as the last line of log, unless that takes long: then
// nobody takes lines any more, and the process is to end all the same.
func writeLast(log *Log, err error) {
	written := make(chan struct{})
	go func() {
		log.Printf("%v", err)
		close(written)
	}()
	select {
	case <-written:
	case <-time.After(200 * time.Millisecond):
	}
}

// oneLine makes a line out of a text that may be several.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
