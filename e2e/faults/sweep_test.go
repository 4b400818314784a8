//go:build e2e && linux

package faults

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"
)

// scenario is a command that is run again and again, each time with something else done
// to it.
type scenario struct {
	name string
	// prepare makes the command's slug be as the command should find it.
	prepare func(t testing.TB, s *site, slug string)
	args    func(s *site, slug string) []string
	next    func(s *site, slug string) []string // the up that comes after it
	// check looks at what the command left of what it found.
	check func(before, after objects, failed bool) error
}

func upArgs(s *site, slug string, more ...string) []string {
	return append(append([]string{"up", "-q", "--image", s.plain, "--pool", pool}, more...), slug)
}

func isUp(t testing.TB, s *site, slug string) {
	t.Helper()
	s.must(t, upArgs(s, slug)...)
}

var (
	freshUp = scenario{
		name:    "up",
		prepare: func(testing.TB, *site, string) {},
		args:    func(s *site, slug string) []string { return upArgs(s, slug) },
		next:    func(s *site, slug string) []string { return upArgs(s, slug) },
		check:   leavesNothing,
	}
	waitingUp = scenario{
		name:    "up --wait",
		prepare: func(testing.TB, *site, string) {},
		args:    func(s *site, slug string) []string { return upArgs(s, slug, "--wait", "--wait-timeout", "300ms") },
		next:    func(s *site, slug string) []string { return upArgs(s, slug) },
		check:   leavesNothing,
	}
	changedUp = scenario{
		name:    "up, changed",
		prepare: isUp,
		args:    func(s *site, slug string) []string { return upArgs(s, slug, "-e", "CHANGED=1") },
		next:    func(s *site, slug string) []string { return upArgs(s, slug, "-e", "CHANGED=1") },
		check: func(before, after objects, failed bool) error {
			switch {
			case after.networkID() != before.networkID():
				return fmt.Errorf("the network was replaced: there was %s, there is %s", before, after)
			case failed && len(after.containers) > 0 && after.containerID() != before.containerID():
				return fmt.Errorf("a container stayed: there was %s, there is %s", before, after)
			}
			return nil
		},
	}
	down = scenario{
		name:    "down",
		prepare: isUp,
		args:    func(_ *site, slug string) []string { return []string{"down", "-q", slug} },
		next:    func(s *site, slug string) []string { return upArgs(s, slug) },
		check: func(before, after objects, failed bool) error {
			if !failed {
				return leavesNothing(before, after, true)
			}
			if len(after.networks) > len(before.networks) || len(after.containers) > len(before.containers) {
				return fmt.Errorf("there was %s, there is %s", before, after)
			}
			return nil
		},
	}
)

func leavesNothing(_, after objects, failed bool) error {
	if failed && len(after.networks)+len(after.containers) > 0 {
		return fmt.Errorf("it left %s", after)
	}
	return nil
}

// points runs a scenario undisturbed and returns the requests it makes.
func (sc scenario) points(t *testing.T, s *site, start func(testing.TB, string, ...string) *process) []point {
	t.Helper()
	slug := tests.slug()
	sc.prepare(t, s, slug)
	p := newProxy(t, s.dial, fault{})
	o := start(t, p.host, sc.args(s, slug)...).wait()
	if o.status != 0 || o.late {
		t.Fatalf("%s, undisturbed: %s", sc.name, o)
	}
	s.must(t, "down", "-q", slug)
	return p.points()
}

// recovers returns nil if the next up, with those arguments, and the next down lead where
// they should, undisturbed.
func (s *site) recovers(ctx context.Context, t testing.TB, slug string, up []string) error {
	if o := s.plugin(t, up...); o.status != 0 || o.late {
		return fmt.Errorf("the next up: %s", o)
	}
	if err := s.checkUp(ctx, slug); err != nil {
		return fmt.Errorf("after the next up: %w", err)
	}
	return s.removes(ctx, t, slug)
}

func (s *site) removes(ctx context.Context, t testing.TB, slug string) error {
	if o := s.plugin(t, "down", "-q", slug); o.status != 0 || o.late {
		return fmt.Errorf("the next down: %s", o)
	}
	if err := s.checkGone(ctx, slug); err != nil {
		return fmt.Errorf("after the next down: %w", err)
	}
	return nil
}

// each runs do for all elements, a few at a time, and returns how many of them went well.
func each[T any](t *testing.T, all []T, do func(context.Context, T) error) (well int) {
	t.Helper()
	errs := make([]error, len(all))
	var group errgroup.Group
	group.SetLimit(atATime)
	for i, one := range all {
		group.Go(func() error {
			errs[i] = do(t.Context(), one)
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs
	for i, err := range errs {
		if err != nil {
			t.Errorf("%v: %v", all[i], err)
			continue
		}
		well++
	}
	return well
}
