package bundle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

// world is an in-memory engine with clients, in a bubble of testing/synctest: what takes
// time on an engine takes none here.
type world struct {
	t      *testing.T
	engine *memengine.Engine
	admin  *memengine.Client // for what the test itself does and looks at
	client *memengine.Client // life's
	life   *Lifecycle

	mu     sync.Mutex
	events []Event
}

func inWorld(t *testing.T, release memengine.Release, do func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, release)
		defer w.engine.Close()
		do(w)
	})
}

// onReleases runs a test once for every release of the engine.
func onReleases(t *testing.T, do func(w *world)) {
	t.Helper()
	for _, release := range releases {
		t.Run(fmt.Sprint("docker", release), func(t *testing.T) { inWorld(t, release, do) })
	}
}

func newWorld(t *testing.T, release memengine.Release) *world {
	w := &world{t: t, engine: memengine.New(release, testPace)}
	w.admin, w.client = w.engine.Client(), w.engine.Client()
	w.engine.Tag(DefaultImage, memengine.NewImage("first", nil, false))
	w.life = &Lifecycle{Engine: w.client, LookupEnv: func(string) (string, bool) { return "", false }, Progress: w.note}
	return w
}

func (w *world) note(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

func (w *world) warnings() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var texts []string
	for _, e := range w.events {
		if warning, ok := e.(Warning); ok {
			texts = append(texts, warning.Text)
		}
	}
	return texts
}

func (w *world) up(spec Spec) *Bundle {
	w.t.Helper()
	up, err := w.life.Up(w.t.Context(), spec, UpOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return up
}

func (w *world) down(slug string) {
	w.t.Helper()
	if err := w.life.Down(w.t.Context(), slug, DownOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) inspect(ref string) container.InspectResponse {
	w.t.Helper()
	found, err := w.admin.ContainerInspect(w.t.Context(), ref)
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// run starts a container of somebody else's.
func (w *world) run(name, network string) string {
	w.t.Helper()
	id, err := runContainer(w.t.Context(), w.admin, name, network, DefaultImage)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func runContainer(ctx context.Context, api Engine, name, network, image string) (string, error) {
	created, err := api.ContainerCreate(ctx, &container.Config{Image: image}, &container.HostConfig{NetworkMode: container.NetworkMode(network)}, nil, nil, name)
	if err != nil {
		return "", err
	}
	return created.ID, api.ContainerStart(ctx, created.ID, container.StartOptions{})
}

// bottleNetwork returns how this package creates a network, for tests that create one in
// its stead.
func bottleNetwork(slug, subnet, gateway string) network.CreateOptions {
	options := network.CreateOptions{Driver: "bridge", Labels: map[string]string{LabelSlug: slug}}
	if subnet != "" {
		options.IPAM = &network.IPAM{Driver: "default", Config: []network.IPAMConfig{{Subnet: subnet, Gateway: gateway}}}
	}
	return options
}

func (w *world) createNetwork(name string, options network.CreateOptions) string {
	w.t.Helper()
	created, err := w.admin.NetworkCreate(w.t.Context(), name, options)
	if err != nil {
		w.t.Fatal(err)
	}
	return created.ID
}

// objects lists everything that an engine has: kind, name and the beginning of the ID.
func objects(ctx context.Context, api Engine) ([]string, error) {
	containers, err := api.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	networks, err := api.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs()})
	if err != nil {
		return nil, err
	}
	var list []string
	for _, c := range containers {
		list = append(list, fmt.Sprintf("container %s %.12s", strings.TrimPrefix(c.Names[0], "/"), c.ID))
	}
	for _, n := range networks {
		list = append(list, fmt.Sprintf("network %s %.12s", n.Name, n.ID))
	}
	slices.Sort(list)
	return list, nil
}

func (w *world) objects() []string {
	w.t.Helper()
	list, err := objects(context.WithoutCancel(w.t.Context()), w.admin)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func mustPool(t *testing.T, s string) netalloc.Pool {
	t.Helper()
	pool, err := netalloc.ParsePool(s)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// answer makes every request of a method fail.
func answer(method string, err error) func(context.Context, memengine.Call) memengine.Weather {
	return func(_ context.Context, call memengine.Call) memengine.Weather {
		if call.Method == method {
			return memengine.Weather{Refuse: err}
		}
		return memengine.Weather{}
	}
}
