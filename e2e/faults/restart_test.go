//go:build e2e && linux

package faults

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// crash is how the engine goes down at a request.
type crash string

const (
	crashBetween crash = "before" // and is back when the request is passed on
	crashDuring  crash = "during" // while it works on the request
	crashAfter   crash = "after"  // when the request has had its effect
)

// atWork is how long the engine gets for its work on a request before it is killed.
const atWork = 30 * time.Millisecond

// TestEngineCrash kills the engine at every request of up and starts it again. The next
// up, and the next down, put right what that left.
func TestEngineCrash(t *testing.T) {
	t.Parallel() // to TestFaults
	e := tests.own(t)
	ctx := t.Context()
	points := slices.DeleteFunc(freshUp.points(t, e.site, e.site.start), point.handshake)
	tried, survived, failed := 0, 0, 0
	for _, at := range points {
		for _, how := range []crash{crashBetween, crashDuring, crashAfter} {
			if how != crashBetween && !at.changes() {
				continue
			}
			tried++
			o, err := e.crashAt(ctx, t, at, how, tried%2 == 0)
			if err != nil {
				t.Errorf("killed %s %s: %v (%s)", how, at, err, o)
				continue
			}
			survived++
			if o.status != 0 {
				failed++
			}
		}
	}
	t.Logf("up: %d requests, engine killed and started %d times, %d survived (%d led to an error), lost or leaked: %d", len(points), tried, survived, failed, tried-survived)
}

func (e *ownEngine) crashAt(ctx context.Context, t *testing.T, at point, how crash, up bool) (o outcome, err error) {
	slug := tests.slug()
	crashed := make(chan error, 1)
	var f fault
	switch how {
	case crashBetween:
		f = fault{at: at, kind: pass, before: func() { crashed <- e.restart(ctx) }}
	case crashDuring:
		f = fault{at: at, kind: pass, before: func() { time.AfterFunc(atWork, func() { crashed <- e.kill() }) }}
	case crashAfter:
		f = fault{at: at, kind: cutAfter, after: func() { crashed <- e.kill() }}
	}
	proxy := newProxy(t, e.dial, f)
	o = e.site.start(t, proxy.host, upArgs(e.site, slug)...).wait()
	if !proxy.hasStruck() {
		return o, fmt.Errorf("the request was not made")
	}
	if err := <-crashed; err != nil {
		return o, err
	}
	if how != crashBetween {
		if err := e.start(ctx); err != nil {
			return o, err
		}
	}
	if err := o.check(); err != nil {
		return o, err
	}
	if how == crashBetween && o.status != 0 {
		// The engine was there for the clean-up.
		if err := e.checkGone(ctx, slug); err != nil {
			return o, err
		}
	}
	if up {
		return o, e.recovers(ctx, t, slug, upArgs(e.site, slug))
	}
	return o, e.removes(ctx, t, slug)
}

// TestEngineCrashWhileUp kills the engine while bundles run, and brings them up, and down,
// as soon as it is back.
func TestEngineCrashWhileUp(t *testing.T) {
	e := tests.own(t)
	ctx := t.Context()
	slugs := []string{tests.slug(), tests.slug(), tests.slug(), tests.slug()}
	up := append([]string{"up", "-q", "--image", e.plain, "--pool", pool, "--publish", "3128"}, slugs...)
	before := e.must(t, up...)
	for range 2 {
		if err := e.restart(ctx); err != nil {
			t.Fatal(err)
		}
		if after := e.must(t, up...); after.stdout != before.stdout {
			t.Errorf("the addresses were\n%s\nand are\n%s", before.stdout, after.stdout)
		}
		for _, slug := range slugs {
			if err := e.checkUp(ctx, slug); err != nil {
				t.Errorf("%s, after up: %v", slug, err)
			}
		}
	}
	if err := e.restart(ctx); err != nil {
		t.Fatal(err)
	}
	e.must(t, append([]string{"down", "-q"}, slugs...)...)
	for _, slug := range slugs {
		if err := e.checkGone(ctx, slug); err != nil {
			t.Errorf("%s, after down: %v", slug, err)
		}
	}
	t.Logf("engine killed and started 3 times while %d bundles ran", len(slugs))
}
