//go:build e2e && linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

const crowd = 32

// tightPool has 40 subnets.
const tightPool = "10.214.0.0/19,10.214.32.0/21,size=24"

// TestOneBottleManyProcesses brings one bottle up from many processes at once.
func TestOneBottleManyProcesses(t *testing.T) {
	for _, build := range []string{"plain", "race detector"} {
		t.Run(build, func(t *testing.T) {
			program := tests.plugin
			if build != "plain" {
				program = filepath.Join(tests.dir, "docker-bottle-race")
				if err := tests.compile(t.Context(), program, "../../cmd/docker-bottle", true); err != nil {
					t.Fatal(err)
				}
			}
			s, slug := tests.shared, tests.slug()
			starts := s.countStarts(t, slug)
			processes := make([]*process, crowd)
			for i := range processes {
				processes[i] = s.startProgram(t, s.engine.DaemonHost(), program, upArgs(s, slug)...)
			}
			failed, addresses := 0, map[string]int{}
			for _, p := range processes {
				o := p.wait()
				if o.status != 0 || o.late || o.stderr != "" {
					t.Errorf("up: %s", o)
					failed++
				}
				addresses[o.stdout]++
			}
			if err := s.checkUp(t.Context(), slug); err != nil {
				t.Error(err)
			}
			if len(addresses) != 1 {
				t.Errorf("the processes printed %v", addresses)
			}
			if n := starts(); n != 1 {
				t.Errorf("containers were started %d times, so bundles that ran were replaced", n)
			}
			if err := s.removes(t.Context(), t, slug); err != nil {
				t.Error(err)
			}
			t.Logf("%d processes, %d of them failed, addresses printed: %v", len(processes), failed, addresses)
		})
	}
}

// countStarts counts how often a container of a bottle is started, until the function that
// it returns is called.
func (s *site) countStarts(t *testing.T, slug string) func() int {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	messages, failed := s.engine.Events(ctx, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)),
		filters.Arg("event", string(events.ActionStart)),
		filters.Arg("label", bundle.LabelSlug+"="+slug),
	)})
	counted := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-messages:
				n++
			case <-failed:
				counted <- n
				return
			}
		}
	}()
	return func() int {
		stop()
		return <-counted
	}
}

// TestManyBottlesTightPool brings as many bottles up at once in a pool with little more
// subnets, so that many find their home taken.
func TestManyBottlesTightPool(t *testing.T) {
	ctx, s := t.Context(), tests.shared
	pool, err := netalloc.ParsePool(tightPool)
	if err != nil {
		t.Fatal(err)
	}
	slugs := make([]string, crowd)
	homes := map[netip.Prefix]int{}
	processes := make([]*process, crowd)
	for i := range slugs {
		slugs[i] = tests.slug()
		home, err := pool.Allocate(slugs[i], nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		homes[home]++
	}
	for i, slug := range slugs {
		processes[i] = s.start(t, s.engine.DaemonHost(), "up", "-q", "--image", s.plain, "--pool", tightPool, slug)
	}
	var taken []netip.Prefix
	for i, p := range processes {
		o := p.wait()
		if o.status != 0 || o.late {
			t.Errorf("up of %s: %s", slugs[i], o)
			continue
		}
		if err := s.checkUp(ctx, slugs[i]); err != nil {
			t.Errorf("%s: %v", slugs[i], err)
			continue
		}
		found, err := s.objects(ctx, slugs[i])
		if err != nil {
			t.Fatal(err)
		}
		subnet := netip.MustParsePrefix(found.networks[0].IPAM.Config[0].Subnet)
		for _, other := range taken {
			if other.Overlaps(subnet) {
				t.Errorf("%s overlaps %s", subnet, other)
			}
		}
		taken = append(taken, subnet)
	}
	each(t, slugs, func(ctx context.Context, slug string) error { return s.removes(ctx, t, slug) })
	t.Logf("%d processes and bottles, %d subnets in the pool, %d homes of the bottles; %d subnets without overlap, lost: %d",
		crowd, pool.Len(), len(homes), len(taken), crowd-len(taken))
}

// TestUpAgainstDown runs up and down of one bottle at the same time, again and again.
func TestUpAgainstDown(t *testing.T) {
	const rounds = 100
	s := tests.shared
	slugs := make([]string, atATime)
	for i := range slugs {
		slugs[i] = tests.slug()
	}
	var ups, gone, busyUps, busyDowns atomic.Int64
	well := each(t, slugs, func(ctx context.Context, slug string) error {
		for round := range rounds / atATime {
			// Which of the two comes first makes a difference; so it changes.
			args := [][]string{upArgs(s, slug), {"down", "-q", slug}}
			first := round % 2
			a := s.start(t, s.engine.DaemonHost(), args[first]...)
			b := s.start(t, s.engine.DaemonHost(), args[1-first]...)
			outcomes := [2]outcome{}
			outcomes[first], outcomes[1-first] = a.wait(), b.wait()
			for i, o := range outcomes {
				if o.late || o.status != 0 && !o.isBusy() {
					return fmt.Errorf("round %d: docker bottle %s: %s", round, args[i][0], o)
				}
			}
			if outcomes[0].isBusy() {
				busyUps.Add(1)
			}
			if outcomes[1].isBusy() {
				busyDowns.Add(1)
			}
			notGone := s.checkGone(ctx, slug)
			if notGone == nil {
				gone.Add(1)
				continue
			}
			if err := s.checkUp(ctx, slug); err != nil {
				return fmt.Errorf("round %d: neither up nor down: %w (up: %s; down: %s)", round, errors.Join(notGone, err), outcomes[0], outcomes[1])
			}
			ups.Add(1)
		}
		return s.removes(ctx, t, slug)
	})
	t.Logf("%d rounds in %d bottles, %d processes: %d ended up, %d with nothing; gave way: %d ups, %d downs; bottles that were right at every step: %d",
		rounds, len(slugs), 2*rounds, ups.Load(), gone.Load(), busyUps.Load(), busyDowns.Load(), well)
}
