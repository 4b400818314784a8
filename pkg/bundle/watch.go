package bundle

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"
)

const (
	// firstMoments is how long a bundle is watched after its start when nobody asked to
	// wait, at least: a busy engine gets the time that it took for the start. A program that
	// rejects its configuration exits within a few milliseconds; engines close its output
	// 20 to 70 ms later, and take 100 ms or more to report the exit. A bundle that says when
	// it is ready is not watched for longer than that.
	firstMoments = 150 * time.Millisecond
	// lastWords bounds how long what is left of a dead container is waited for.
	lastWords = 2 * time.Second
	// healthInterval is how often a container's health is looked at.
	healthInterval = 50 * time.Millisecond
)

// watch follows a container from before its start. The engine removes the container as
// soon as it exits, its log and exit status with it, so they are taken down as they come.
type watch struct {
	life *Lifecycle
	slug string
	id   string
	stop context.CancelFunc

	startTook time.Duration

	exited   <-chan container.WaitResponse // nil where the engine can't be waited on
	log      *tail
	attached bool
	ended    chan struct{} // closed when the log has ended, or can't be had
}

// watch begins to follow a container; replay includes what it has logged so far. An
// engine that won't tell leaves less to report, and is no reason to fail.
func (a *attempt) watch(ctx context.Context, id string, replay bool) *watch {
	l := a.life
	ctx, stop := context.WithCancel(ctx)
	w := &watch{life: l, slug: a.request.Slug, id: id, stop: stop, ended: make(chan struct{})}
	w.log = &tail{limit: max(a.logLines, 0), readyText: a.request.readyText(), ready: make(chan struct{})}
	attached := make(chan struct{})
	go func() {
		defer close(w.ended)
		stream, err := l.Engine.ContainerAttach(ctx, id, container.AttachOptions{Stream: true, Stdout: true, Stderr: true, Logs: replay})
		w.attached = err == nil
		close(attached)
		if err != nil {
			return
		}
		defer stream.Close()
		defer context.AfterFunc(ctx, stream.Close)()
		_, _ = stdcopy.StdCopy(w.log, w.log, stream.Reader)
	}()
	exited, failed := l.Engine.ContainerWait(ctx, id, container.WaitConditionNextExit)
	select {
	case <-failed:
	default:
		w.exited = exited
	}
	<-attached
	return w
}

func (w *watch) close() { w.stop() }

// settle returns the container once it is as ready as the options ask for, or the error
// that says how it failed.
func (a *attempt) settle(ctx context.Context, w *watch) (container.InspectResponse, error) {
	found, err := a.inspectAlive(ctx, w)
	if err != nil {
		return found, err
	}
	if !a.options.Wait {
		return found, a.surviveStart(ctx, w)
	}
	step := Step{Slug: a.request.Slug, Action: "Wait for container", Object: ContainerName(a.request.Slug)}
	err = a.life.step(step, func() error {
		if health(found) == "" {
			stay := a.options.WaitTimeout
			if stay == 0 {
				stay = DefaultStayUp
			}
			return a.stayUp(ctx, w, stay)
		}
		found, err = a.awaitHealthy(ctx, w)
		return err
	})
	return found, err
}

// surviveStart returns nil unless the container exits as soon as it is started.
func (a *attempt) surviveStart(ctx context.Context, w *watch) error {
	if !w.attached {
		return a.stayUp(ctx, w, lastWords)
	}
	timer := time.NewTimer(max(firstMoments, w.startTook))
	defer timer.Stop()
	select {
	case <-w.log.ready:
		return nil
	case <-w.ended:
		// Most likely it has exited; but a program may close its output and go on.
		return a.stayUp(ctx, w, lastWords)
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stayUp returns nil if the container runs for a while longer. It looks for itself at the
// end: the request that would tell of an exit may have failed.
func (a *attempt) stayUp(ctx context.Context, w *watch, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case status := <-w.exited:
		return a.dead(ctx, w, status.StatusCode)
	case <-timer.C:
		_, err := a.inspectAlive(ctx, w)
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *attempt) awaitHealthy(ctx context.Context, w *watch) (container.InspectResponse, error) {
	timeout := a.options.WaitTimeout
	if timeout == 0 {
		timeout = DefaultWaitTimeout
	}
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	for {
		found, err := a.inspectAlive(ctx, w)
		if err != nil {
			return found, err
		}
		switch health(found) {
		case container.Healthy:
			return found, nil
		case container.Unhealthy:
			return found, a.unhealthy(found, w, "is unhealthy")
		}
		select {
		case status := <-w.exited:
			return found, a.dead(ctx, w, status.StatusCode)
		case <-deadline.C:
			return found, a.unhealthy(found, w, fmt.Sprintf("is not healthy after %s", timeout))
		case <-ctx.Done():
			return found, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

func (a *attempt) inspectAlive(ctx context.Context, w *watch) (container.InspectResponse, error) {
	found, err := a.life.Engine.ContainerInspect(ctx, w.id)
	switch {
	case errdefs.IsNotFound(err):
		return found, a.dead(ctx, w, -1)
	case err != nil:
		return found, fmt.Errorf("inspect container %s: %w", ContainerName(w.slug), err)
	case !found.State.Running:
		return found, a.dead(ctx, w, int64(found.State.ExitCode))
	}
	return found, nil
}

// health returns a container's health status, "" where it has no health check.
func health(found container.InspectResponse) string {
	if found.State.Health == nil || found.State.Health.Status == container.NoHealthcheck {
		return ""
	}
	return found.State.Health.Status
}

func (a *attempt) unhealthy(found container.InspectResponse, w *watch, how string) error {
	err := &UnhealthyError{Container: ContainerName(w.slug), How: how, Log: a.redact(w.log.lines())}
	if checks := found.State.Health.Log; len(checks) > 0 {
		err.Check = a.redact([]string{strings.TrimSpace(checks[len(checks)-1].Output)})[0]
	}
	return err
}

// dead returns the error of a container that is not running any more. One that somebody
// else stopped is a contention.
func (a *attempt) dead(ctx context.Context, w *watch, status int64) error {
	ctx, stop := context.WithTimeout(ctx, lastWords)
	defer stop()
	cause := a.life.postMortem(ctx, w.id)
	if cause.killed {
		return &contention{fmt.Errorf("container %s was stopped as soon as it was started: %w", ContainerName(w.slug), errdefs.ErrConflict)}
	}
	if cause.status >= 0 {
		status = cause.status
	}
	if status < 0 {
		select {
		case exit := <-w.exited:
			status = exit.StatusCode
		case <-ctx.Done():
		}
	}
	select {
	case <-w.ended:
	case <-ctx.Done():
	}
	failure := &DeadError{Container: ContainerName(w.slug), ExitCode: status, OOMKilled: cause.oom}
	if w.attached && a.logLines > 0 {
		failure.Log = a.redact(w.log.lines())
	}
	return failure
}

// demise is what the engine's events tell of a container's end.
type demise struct {
	killed bool  // through the engine, as by stop or rm
	oom    bool  // by the kernel, for want of memory
	status int64 // -1 where no event tells
}

// postMortem reads the end of a container from the events that the engine remembers, up
// to its removal.
func (l *Lifecycle) postMortem(ctx context.Context, id string) demise {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	result := demise{status: -1}
	messages, failed := l.Engine.Events(ctx, events.ListOptions{
		Since: "1", // everything remembered: clocks of client and engine may differ
		Filters: filters.NewArgs(
			filters.Arg("container", id),
			filters.Arg("event", string(events.ActionDie)),
			filters.Arg("event", string(events.ActionOOM)),
			filters.Arg("event", string(events.ActionKill)),
			filters.Arg("event", string(events.ActionDestroy)),
		),
	})
	for {
		select {
		case message := <-messages:
			switch message.Action {
			case events.ActionKill:
				result.killed = true
			case events.ActionOOM:
				result.oom = true
			case events.ActionDie:
				if status, err := strconv.ParseInt(message.Actor.Attributes["exitCode"], 10, 64); err == nil {
					result.status = status
				}
			case events.ActionDestroy:
				return result
			}
		case <-failed:
			return result
		case <-ctx.Done():
			return result
		}
	}
}

// shortestSecret is the length from which a variable's value is taken out of log lines.
// Shorter ones, such as "1" or "debug", would blank out much that is none.
const shortestSecret = 8

// redact replaces the values of the bundle's environment in log lines: a program that
// fails may well print what it was given.
func (a *attempt) redact(lines []string) []string {
	var secrets []string
	for _, entry := range a.request.env {
		name, value, _ := strings.Cut(entry, "=")
		if name == DaemonsVariable {
			continue
		}
		for line := range strings.Lines(value) { // a key has several, and so has its print
			if secret := printable([]byte(strings.TrimSpace(line))); len(secret) >= shortestSecret {
				secrets = append(secrets, secret)
			}
		}
	}
	// The longest first: another may be its beginning, and would leave the rest of it.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	var pairs []string
	for _, secret := range secrets {
		pairs = append(pairs, secret, "***")
	}
	replacer := strings.NewReplacer(pairs...)
	redacted := make([]string, len(lines))
	for i, line := range lines {
		redacted[i] = replacer.Replace(line)
	}
	return redacted
}

// tail keeps the last lines written to it. It may be written to and read concurrently.
type tail struct {
	limit     int
	readyText string        // "" for none
	ready     chan struct{} // closed when a line has the text in it

	mu      sync.Mutex
	kept    []string
	partial []byte
	isReady bool
}

// longestLine bounds what is kept of a line, in bytes.
const longestLine = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := p
	for {
		line, after, complete := bytes.Cut(rest, []byte{'\n'})
		room := max(longestLine-len(t.partial), 0)
		t.partial = append(t.partial, line[:min(room, len(line))]...)
		if !complete {
			return len(p), nil
		}
		t.keep()
		rest = after
	}
}

func (t *tail) keep() {
	if !t.isReady && t.readyText != "" && bytes.Contains(t.partial, []byte(t.readyText)) {
		t.isReady = true
		close(t.ready)
	}
	t.kept = append(t.kept, printable(t.partial))
	t.partial = t.partial[:0]
	if extra := len(t.kept) - t.limit; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
}

func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.partial) > 0 {
		t.keep()
	}
	return append([]string(nil), t.kept...)
}

// printable keeps what a container logs from steering the terminal it is shown on.
func printable(line []byte) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || strconv.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, strings.TrimRight(string(line), "\r"))
}
