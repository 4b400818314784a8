//go:build e2e && linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/api/types/image"
)

var kinds = []kind{refuse, cutBefore, cutAfter, delay}

// shot is a fault of one kind at one request.
type shot struct {
	at   point
	kind kind
}

func (s shot) String() string { return fmt.Sprintf("%s at %s", s.kind, s.at) }

func shots(points []point) []shot {
	var all []shot
	for _, at := range points {
		for _, kind := range kinds {
			all = append(all, shot{at, kind})
		}
	}
	return all
}

// TestFaults disturbs every request of up and down in every way.
func TestFaults(t *testing.T) {
	t.Parallel() // to TestEngineCrash, which has an engine of its own
	s := tests.shared
	guard := newSentinel(t, s)
	for _, sc := range []scenario{freshUp, changedUp, waitingUp, down} {
		t.Run(sc.name, func(t *testing.T) {
			points := sc.points(t, s, s.start)
			all := shots(points)
			var failed, unmade atomic.Int64
			survived := each(t, all, func(ctx context.Context, shot shot) error {
				slug := tests.slug()
				o, struck, err := sc.disturb(ctx, t, s, slug, fault{at: shot.at, kind: shot.kind})
				switch {
				case err != nil:
					return err
				case !struck:
					// How often some answers are asked for depends on the engine's pace.
					unmade.Add(1)
				case o.status != 0:
					failed.Add(1)
				}
				if err := guard.check(ctx); err != nil {
					return err
				}
				if sc.name == down.name && o.status == 0 {
					return s.checkGone(ctx, slug)
				}
				return s.recovers(ctx, t, slug, sc.next(s, slug))
			})
			// Two of the requests, of each kind of fault, may depend on the engine's pace:
			// a short run has few others.
			if int(unmade.Load()) > max(len(all)/10, 2*4) {
				t.Errorf("%d of %d requests were not made again", unmade.Load(), len(all))
			}
			t.Logf("%s: %d requests, %d faults tried, %d survived (%d led to an error, %d came too late), lost or leaked: %d",
				sc.name, len(points), len(all), survived, failed.Load(), unmade.Load(), len(all)-survived)
		})
	}
}

// disturb runs a scenario with a fault and looks at what it leaves.
func (sc scenario) disturb(ctx context.Context, t *testing.T, s *site, slug string, f fault) (o outcome, struck bool, err error) {
	sc.prepare(t, s, slug)
	before, err := s.objects(ctx, slug)
	if err != nil {
		return o, false, err
	}
	proxy := newProxy(t, s.dial, f)
	o = s.start(t, proxy.host, sc.args(s, slug)...).wait()
	if err := o.check(); err != nil {
		return o, false, fmt.Errorf("%w: %s", err, o)
	}
	after, err := s.objects(ctx, slug)
	if err != nil {
		return o, false, err
	}
	if err := sc.check(before, after, o.status != 0); err != nil {
		return o, false, fmt.Errorf("%w: %s", err, o)
	}
	return o, proxy.hasStruck(), nil
}

// TestBuildFaults disturbs every request of build in every way.
func TestBuildFaults(t *testing.T) {
	s := tests.shared
	dir := t.TempDir()
	for name, text := range map[string]string{"Dockerfile": "FROM scratch\nCOPY file /file\n", "file": "content\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := func(tag string) []string { return []string{"build", "-q", "-t", tag, dir} }
	name := func() string { return fmt.Sprintf("docker-bottle-flt-%s:build%d", tests.run, tests.slugs.Add(1)) }
	proxy := newProxy(t, s.dial, fault{})
	if o := s.start(t, proxy.host, args(name())...).wait(); o.status != 0 {
		t.Fatalf("undisturbed: %s", o)
	}
	points := proxy.points()
	all := shots(points)
	survived := each(t, all, func(ctx context.Context, shot shot) error {
		tag := name()
		proxy := newProxy(t, s.dial, fault{at: shot.at, kind: shot.kind})
		o := s.start(t, proxy.host, args(tag)...).wait()
		if !proxy.hasStruck() {
			return errors.New("the request was not made")
		}
		if err := o.check(); err != nil {
			return fmt.Errorf("%w: %s", err, o)
		}
		if o.status != 0 {
			o = s.plugin(t, args(tag)...)
		}
		if o.status != 0 {
			return fmt.Errorf("the next build: %s", o)
		}
		found, err := s.engine.ImageInspect(ctx, tag)
		if err != nil {
			return err
		}
		if found.ID != o.stdout {
			return fmt.Errorf("image %s is %s, the build said %s", tag, found.ID, o.stdout)
		}
		_, err = s.engine.ImageRemove(ctx, tag, image.RemoveOptions{})
		return err
	})
	t.Logf("build: %d requests, %d faults tried, %d survived, lost: %d", len(points), len(all), survived, len(all)-survived)
}
