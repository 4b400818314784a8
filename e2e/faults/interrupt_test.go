//go:build e2e && linux

package faults

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// strike is a signal at one request: when it arrives, or when it has had its effect.
type strike struct {
	at     point
	effect bool
}

func (s strike) String() string {
	if s.effect {
		return "after " + s.at.String()
	}
	return "before " + s.at.String()
}

func strikes(points []point) []strike {
	var all []strike
	for _, at := range points {
		all = append(all, strike{at, false}, strike{at, true})
	}
	return all
}

// notice is how long a request is held up after an interrupt, so that the process notices
// the interrupt at this step and not at the next.
const notice = 100 * time.Millisecond

const exitInterrupted = 130

// TestInterrupt interrupts docker bottle up at every request it makes, as Ctrl-C does and
// as a signal to the docker command alone does.
func TestInterrupt(t *testing.T) {
	s := tests.shared
	guard := newSentinel(t, s)
	for _, sc := range []scenario{freshUp, changedUp} {
		t.Run(sc.name, func(t *testing.T) {
			// The connection is the docker command's business, too: it may have ended by
			// itself before it starts the plugin.
			points := slices.DeleteFunc(sc.points(t, s, s.startDocker), point.handshake)
			all := strikes(points)
			var groups, unmade atomic.Int64
			survived := each(t, all, func(ctx context.Context, at strike) error {
				slug := tests.slug()
				sc.prepare(t, s, slug)
				before, err := s.objects(ctx, slug)
				if err != nil {
					return err
				}
				started := make(chan *process, 1)
				group := at.effect == (at.at.nth == 1)
				if group {
					groups.Add(1)
				}
				hit := func() {
					p := <-started
					p.signal(syscall.SIGINT, group)
					time.Sleep(notice)
				}
				f := fault{at: at.at, kind: pass, before: hit}
				if at.effect {
					f.before, f.after = nil, hit
				}
				proxy := newProxy(t, s.dial, f)
				p := s.startDocker(t, proxy.host, sc.args(s, slug)...)
				started <- p
				o := p.wait()
				if !proxy.hasStruck() {
					unmade.Add(1)
					return s.removes(ctx, t, slug)
				}
				if err := o.check(); err != nil {
					return fmt.Errorf("%w: %s", err, o)
				}
				if o.status != exitInterrupted {
					return fmt.Errorf("%s", o)
				}
				after, err := s.objects(ctx, slug)
				if err != nil {
					return err
				}
				if err := sc.check(before, after, true); err != nil {
					return fmt.Errorf("%w: %s", err, o)
				}
				if err := guard.check(ctx); err != nil {
					return err
				}
				return s.removes(ctx, t, slug)
			})
			// Two of the requests, each interrupted in two ways, may depend on the engine's
			// pace: a short run has few others.
			if int(unmade.Load()) > max(len(all)/10, 2*2) {
				t.Errorf("%d of %d requests were not made again", unmade.Load(), len(all))
			}
			t.Logf("%s: %d requests, %d interruptions tried (%d of the process group), %d survived, %d came too late, lost or leaked: %d",
				sc.name, len(points), len(all), groups.Load(), survived, unmade.Load(), len(all)-survived)
		})
	}
}

// TestKill kills the plugin at every request of up. The next command, which is up for one
// half and down for the other, puts right what it left.
func TestKill(t *testing.T) {
	s := tests.shared
	guard := newSentinel(t, s)
	for _, sc := range []scenario{freshUp, changedUp} {
		t.Run(sc.name, func(t *testing.T) {
			points := slices.DeleteFunc(sc.points(t, s, s.start), point.handshake)
			all := strikes(points)
			if sc.name == freshUp.name {
				all = append(all, all...) // both commands for each
			}
			var order, left, unmade atomic.Int64
			survived := each(t, all, func(ctx context.Context, at strike) error {
				up := int(order.Add(1)) <= len(all)/2
				slug := tests.slug()
				sc.prepare(t, s, slug)
				started := make(chan *process, 1)
				kill := func() {
					p := <-started
					p.signal(syscall.SIGKILL, false)
					<-p.ended
				}
				f := fault{at: at.at, kind: cutBefore, before: kill}
				if at.effect {
					f = fault{at: at.at, kind: cutAfter, after: kill}
				}
				proxy := newProxy(t, s.dial, f)
				p := s.start(t, proxy.host, sc.args(s, slug)...)
				started <- p
				if o := p.wait(); !proxy.hasStruck() {
					unmade.Add(1)
				} else if o.status != -1 {
					return fmt.Errorf("it was killed and ended with %s", o)
				}
				after, err := s.objects(ctx, slug)
				if err != nil {
					return err
				}
				if len(after.networks)+len(after.containers) > 0 {
					left.Add(1)
				}
				if err := guard.check(ctx); err != nil {
					return err
				}
				if up {
					return s.recovers(ctx, t, slug, sc.next(s, slug))
				}
				return s.removes(ctx, t, slug)
			})
			t.Logf("%s: %d requests, %d kills tried, %d survived; %d left something, which the next command put right; %d came too late; lost or leaked: %d",
				sc.name, len(points), len(all), survived, left.Load(), unmade.Load(), len(all)-survived)
		})
	}
}
