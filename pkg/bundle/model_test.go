package bundle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"pgregory.net/rapid"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

// The model-based test: several clients bring bottles up and down on one engine at the
// same time, while containers are killed, the engine restarts, networks and containers of
// others come and go, and requests fail before or after their effect. Afterwards the
// engine must have nothing that it should not have, and one undisturbed up must be enough
// to reach the right state, one down to leave nothing.
//
// Each request takes its own time on a clock that only moves when nobody is busy, so that
// requests interleave in an order given by the plan.

// act is one thing that a client does, or that happens.
type act struct {
	kind    string
	slug    string
	variant int           // of the spec, or of the subnet of a foreign network
	after   time.Duration // the pause before it
	fault   fault
}

// fault is what goes wrong with one request of an act.
type fault struct {
	call int // which of the act's requests; 0 for none
	kind string
}

func (a act) String() string {
	text := fmt.Sprintf("%s %s/%d after %s", a.kind, a.slug, a.variant, a.after)
	if a.fault.call > 0 {
		text += fmt.Sprintf(", request %d: %s", a.fault.call, a.fault.kind)
	}
	return text
}

// plan is what each client does, in order.
type plan struct {
	release memengine.Release
	clients [][]act
}

func (p plan) has(kinds ...string) bool {
	for _, acts := range p.clients {
		for _, a := range acts {
			if slices.Contains(kinds, a.kind) {
				return true
			}
		}
	}
	return false
}

func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "docker %d", p.release)
	for i, acts := range p.clients {
		for _, a := range acts {
			fmt.Fprintf(&b, "\n  client %d: %s", i, a)
		}
	}
	return b.String()
}

// tally counts what the sequences of a test have exercised.
type tally struct {
	mu                           sync.Mutex
	sequences, ups, failed, hits int
}

func (c *tally) add(count *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*count++
}

var modelSlugs = []string{"ant", "bee", "cat"}

// modelSpecs returns the specs that a bottle is brought up with.
func modelSpec(slug string, variant int, pool netalloc.Pool) Spec {
	spec := Spec{Slug: slug, Pool: pool}
	switch variant {
	case 1:
		spec.Env = []string{"MODE=other"}
	case 2:
		spec.Env = []string{"MODE=other"}
		spec.Ports = []Port{{ContainerPort: 80}}
	case 3:
		spec.Env = []string{memengine.ScriptVariable + "=print no;exit 3"} // dies at once
	case 4:
		spec.Subnet = netip.MustParsePrefix("10.201.7.0/24")
	}
	return spec
}

const modelVariants = 5

func drawPlan(rt *rapid.T, clients, acts, slugs int, faults bool) plan {
	kinds := []string{
		"up", "up", "up", "up", "up", "down", "down", "down",
		"kill", "pause", "restart", "disconnect", "network", "duplicate", "leftover", "foreign",
		"guest", "guest leaves", "endpoint", "image",
	}
	pauses := []int{0, 0, 0, 5, 20, 50, 100, 300} // milliseconds
	if slugs == 1 {
		// Those that a single bottle's clients get in each other's way with.
		kinds = []string{"up", "up", "up", "up", "up", "up", "down", "down", "kill", "pause", "pause", "image"}
		pauses = []int{0, 0, 0, 0, 5, 20, 300}
	}
	p := plan{release: rapid.SampledFrom(releases).Draw(rt, "release")}
	for c := range rapid.IntRange(1, clients).Draw(rt, "clients") {
		var list []act
		for i := range rapid.IntRange(1, acts).Draw(rt, "acts") {
			label := fmt.Sprintf("%d.%d ", c, i)
			a := act{
				kind:    rapid.SampledFrom(kinds).Draw(rt, label+"kind"),
				slug:    rapid.SampledFrom(modelSlugs[:slugs]).Draw(rt, label+"slug"),
				variant: rapid.IntRange(0, modelVariants-1).Draw(rt, label+"variant"),
				after:   time.Duration(rapid.SampledFrom(pauses).Draw(rt, label+"after")) * time.Millisecond,
			}
			if faults && (a.kind == "up" || a.kind == "down") && rapid.Bool().Draw(rt, label+"faulty") {
				a.fault = fault{
					call: rapid.IntRange(1, 14).Draw(rt, label+"call"),
					kind: rapid.SampledFrom([]string{"500", "cut", "cut after", "500 after", "cancel", "cancel before", "delay"}).Draw(rt, label+"fault"),
				}
			}
			list = append(list, a)
		}
		p.clients = append(p.clients, list)
	}
	return p
}

// model is one plan being carried out.
type model struct {
	*world
	plan  plan
	pool  netalloc.Pool
	tally *tally

	mu       sync.Mutex
	foreign  map[string]string // names of what others have made, by its kind and ID
	guests   map[string]string // guests' IDs, by slug
	problems []string
}

func (m *model) complain(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problems = append(m.problems, fmt.Sprintf(format, args...))
}

// runPlan carries a plan out and returns what was wrong about it.
func runPlan(t *testing.T, p plan, counts *tally) (problems []string) {
	pool, err := netalloc.ParsePool("10.201.0.0/20,size=24")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, p.release)
		defer w.engine.Close()
		m := &model{world: w, plan: p, pool: pool, tally: counts, foreign: map[string]string{}, guests: map[string]string{}}
		var clients sync.WaitGroup
		for i, acts := range p.clients {
			clients.Go(func() {
				for j, a := range acts {
					time.Sleep(a.after + time.Duration(i)*time.Microsecond)
					m.perform(i, j, a)
				}
			})
		}
		clients.Wait()
		time.Sleep(time.Minute) // whatever is still under way ends
		m.checkForeign("at rest")
		if !p.faulty() && !p.has("duplicate") {
			m.checkNames("at rest")
		}
		m.settle()
		problems = m.problems
	})
	return problems
}

func (p plan) faulty() bool {
	for _, acts := range p.clients {
		for _, a := range acts {
			if a.fault.call > 0 {
				return true
			}
		}
	}
	return false
}

// perform does one act as one client.
func (m *model) perform(client, index int, a act) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	api := m.engine.Client()
	api.Intercept = func(_ context.Context, call memengine.Call) memengine.Weather {
		// No two requests take the same time, so that their order is given.
		step := time.Duration(1+(client*7919+index*104729+call.N*15485863)%2048) * 1009 * time.Nanosecond
		weather := memengine.Weather{Before: step, After: step / 3}
		if call.N == a.fault.call {
			m.tally.add(&m.tally.hits)
			a.fault.strike(&weather, cancel)
		}
		return weather
	}
	life := &Lifecycle{Engine: api, LookupEnv: m.life.LookupEnv}
	switch a.kind {
	case "up":
		before := m.objects()
		_, err := life.Up(ctx, modelSpec(a.slug, a.variant, m.pool), UpOptions{})
		m.checkError(a, err)
		m.tally.add(&m.tally.ups)
		if err != nil {
			m.tally.add(&m.tally.failed)
		}
		if err != nil && len(m.plan.clients) == 1 {
			m.checkUndone(a, before, err)
		}
	case "down":
		m.checkError(a, life.Down(ctx, a.slug, DownOptions{}))
	default:
		m.disturb(ctx, client, index, a)
	}
	if a.fault.kind == "cancel" {
		time.Sleep(time.Minute) // the engine carries out what it was asked for
	}
}

func (f fault) strike(weather *memengine.Weather, cancel context.CancelCauseFunc) {
	switch f.kind {
	case "500":
		weather.Refuse = memengine.Internal("something went wrong")
	case "cut":
		weather.Refuse = memengine.ErrCut
	case "500 after":
		weather.Lose = memengine.Internal("something went wrong")
	case "cut after":
		weather.Lose = memengine.ErrCut
	case "cancel":
		time.AfterFunc(weather.Before/2, func() { cancel(errInterrupted) })
	case "cancel before":
		cancel(errInterrupted)
	case "delay":
		weather.Before += 500 * time.Millisecond
	}
}

var errInterrupted = errors.New("interrupted")

// disturb does what is nobody's up or down.
func (m *model) disturb(ctx context.Context, client, index int, a act) {
	name := ContainerName(a.slug)
	tag := fmt.Sprintf("%d-%d", client, index)
	switch a.kind {
	case "kill":
		_ = m.engine.Kill(name)
	case "pause":
		_ = m.admin.ContainerPause(ctx, name)
	case "restart":
		m.engine.Restart()
	case "image":
		m.engine.Tag(DefaultImage, memengine.NewImage("image "+tag, nil, false))
	case "network":
		subnet := fmt.Sprintf("10.201.%d.0/24", 3*a.variant+client)
		created, err := m.admin.NetworkCreate(ctx, "lan-"+tag, bottleNetwork("", subnet, ""))
		if err == nil {
			m.remember("network", created.ID, "lan-"+tag)
		}
	case "duplicate":
		// A second network, as a client leaves it that ended before it could look again.
		if m.plan.release == memengine.Docker20 {
			options := bottleNetwork(a.slug, fmt.Sprintf("10.201.%d.0/24", 3*a.variant+client), "")
			options.IPAM.Config[0].IPRange = fmt.Sprintf("10.201.%d.128/25", 3*a.variant+client)
			_, _ = m.engine.DuplicateNetwork(NetworkName(a.slug), options)
		}
	case "disconnect":
		_ = m.admin.NetworkDisconnect(ctx, NetworkName(a.slug), name, true)
	case "leftover":
		// A bundle that was not auto-removed when it stopped.
		config := &container.Config{Image: DefaultImage, Env: []string{DaemonsVariable + "=egress"}}
		created, err := m.admin.ContainerCreate(ctx, config, &container.HostConfig{}, nil, nil, name)
		if err == nil {
			_ = m.admin.ContainerStart(ctx, created.ID, container.StartOptions{})
			_ = m.admin.ContainerStop(ctx, created.ID, container.StopOptions{})
		}
	case "foreign":
		// A container of the name that is no bundle. Others' names do not matter here.
		id, err := runContainer(ctx, m.admin, name, "bridge-of-the-host", DefaultImage)
		if id != "" && err != nil {
			m.remember("container", id, name) // created; its network does not exist
		}
	case "guest":
		id, err := runContainer(ctx, m.admin, "guest-"+tag, NetworkName(a.slug), DefaultImage)
		if err != nil {
			if id != "" {
				_ = m.admin.ContainerRemove(ctx, id, container.RemoveOptions{Force: true})
			}
			return
		}
		m.remember("container", id, "guest-"+tag)
		m.mu.Lock()
		m.guests[id] = a.slug
		m.mu.Unlock()
		found, err := m.admin.ContainerInspect(ctx, id)
		if err == nil {
			if e := found.NetworkSettings.Networks[NetworkName(a.slug)]; e != nil && strings.HasSuffix(e.IPAddress, ".2") {
				m.complain("guest %s was given the bundle's address %s", tag, e.IPAddress)
			}
		}
	case "guest leaves":
		m.dismissGuests(a.slug)
	case "endpoint":
		found, err := m.admin.NetworkInspect(ctx, NetworkName(a.slug), network.InspectOptions{})
		if err != nil {
			return
		}
		subnet, _ := addressing(found)
		for _, e := range found.Containers {
			if e.Name == name {
				return
			}
		}
		if _, err := m.admin.ContainerInspect(ctx, name); errdefs.IsNotFound(err) {
			_ = m.engine.LeaveEndpoint(found.ID, name, netalloc.Bundle(subnet))
		}
	}
}

func (m *model) remember(kind, id, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.foreign[kind+" "+id] = name
}

func (m *model) dismissGuests(slug string) {
	m.mu.Lock()
	var leaving []string
	for id, of := range m.guests {
		if of == slug {
			leaving = append(leaving, id)
			delete(m.guests, id)
			delete(m.foreign, "container "+id)
		}
	}
	m.mu.Unlock()
	for _, id := range leaving {
		if err := m.admin.ContainerRemove(context.Background(), id, container.RemoveOptions{Force: true}); err != nil {
			m.complain("guest could not leave: %v", err)
		}
	}
}

// modelRounds is how often each test runs package rapid's number of sequences, which is 100
// unless -rapid.checks says otherwise.
const modelRounds = 8

func TestModel(t *testing.T) {
	tests := []struct {
		name                 string
		clients, acts, slugs int
		faults               bool
	}{
		{"one client", 1, 5, 3, false},
		{"one client, faults", 1, 4, 3, true},
		{"clients", 4, 4, 3, false},
		{"clients of one bottle", 4, 3, 1, false},
		{"clients, faults", 4, 4, 3, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			counts := &tally{}
			for range modelRounds {
				rapid.Check(t, func(rt *rapid.T) {
					p := drawPlan(rt, tt.clients, tt.acts, tt.slugs, tt.faults)
					counts.add(&counts.sequences)
					if problems := runPlan(t, p, counts); len(problems) > 0 {
						rt.Fatalf("%s\n%s", p, strings.Join(problems, "\n"))
					}
				})
			}
			t.Logf("%d sequences checked: %d ups, of which %d failed, and %d faults", counts.sequences, counts.ups, counts.failed, counts.hits)
		})
	}
}
