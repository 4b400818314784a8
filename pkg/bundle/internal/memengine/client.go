package memengine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Call is a request that a client is about to make.
type Call struct {
	Method string // "NetworkCreate"
	N      int    // how many requests the client has made, this one included
}

// Weather is what happens to a request on its way.
type Weather struct {
	Before, After time.Duration // on the way there and back
	Refuse        error         // answered instead of having any effect
	Lose          error         // answered after the request has had its effect
}

// Client is a connection to an engine, with the methods of the official client. Set
// Intercept before the first call.
type Client struct {
	engine *Engine

	// Intercept, when set, is asked about every request.
	Intercept func(ctx context.Context, call Call) Weather

	mu     sync.Mutex
	calls  int
	counts map[string]int
}

// Client connects to the engine.
func (e *Engine) Client() *Client { return &Client{engine: e, counts: map[string]int{}} }

// Counts returns how many requests of each method were made.
func (c *Client) Counts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := make(map[string]int, len(c.counts))
	for method, n := range c.counts {
		counts[method] = n
	}
	return counts
}

// Calls returns how many requests were made.
func (c *Client) Calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

func (c *Client) weather(ctx context.Context, method string) Weather {
	c.mu.Lock()
	c.calls++
	c.counts[method]++
	call := Call{Method: method, N: c.calls}
	c.mu.Unlock()
	if c.Intercept == nil {
		return Weather{}
	}
	return c.Intercept(ctx, call)
}

// call makes a request. A client that hangs up while it is on its way does not stop it:
// the engine has got it and carries it out.
func (c *Client) call(ctx context.Context, method string, effect func() error) error {
	w := c.weather(ctx, method)
	if err := ctx.Err(); err != nil {
		return err
	}
	answered := make(chan error, 1)
	c.engine.background.Go(func() {
		time.Sleep(w.Before)
		if w.Refuse != nil {
			answered <- w.Refuse
			return
		}
		err := effect()
		time.Sleep(w.After)
		if w.Lose != nil {
			err = w.Lose
		}
		answered <- err
	})
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask makes a request that has a result.
func ask[T any](ctx context.Context, c *Client, method string, effect func() (T, error)) (T, error) {
	results := make(chan T, 1)
	err := c.call(ctx, method, func() error {
		result, err := effect()
		results <- result
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return <-results, nil
}

func noUpgrade(proto string) error {
	return errors.New("unable to upgrade to " + proto + ", received 404")
}

// ErrCut is a connection that broke.
var ErrCut = fmt.Errorf("error during connect: %w", io.ErrUnexpectedEOF)

func (c *Client) ContainerAttach(ctx context.Context, name string, options container.AttachOptions) (types.HijackedResponse, error) {
	var mu sync.Mutex
	var stream types.HijackedResponse
	hungUp := false
	err := c.call(ctx, "ContainerAttach", func() error {
		mu.Lock()
		defer mu.Unlock()
		if hungUp {
			return ctx.Err()
		}
		var err error
		stream, err = c.engine.attachContainer(name, options)
		return err
	})
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		hungUp = true
		if stream.Conn != nil {
			stream.Close()
		}
		return types.HijackedResponse{}, err
	}
	return stream, nil
}

func (c *Client) ContainerCreate(ctx context.Context, config *container.Config, host *container.HostConfig, networking *network.NetworkingConfig, _ *ocispec.Platform, name string) (container.CreateResponse, error) {
	return ask(ctx, c, "ContainerCreate", func() (container.CreateResponse, error) {
		return c.engine.createContainer(config, host, networking, name)
	})
}

func (c *Client) ContainerInspect(ctx context.Context, name string) (container.InspectResponse, error) {
	return ask(ctx, c, "ContainerInspect", func() (container.InspectResponse, error) { return c.engine.inspectContainer(name) })
}

func (c *Client) ContainerKill(ctx context.Context, name, _ string) error {
	return c.call(ctx, "ContainerKill", func() error { return c.engine.killContainer(name) })
}

func (c *Client) ContainerList(ctx context.Context, options container.ListOptions) ([]container.Summary, error) {
	return ask(ctx, c, "ContainerList", func() ([]container.Summary, error) { return c.engine.listContainers(options), nil })
}

func (c *Client) ContainerPause(ctx context.Context, name string) error {
	return c.call(ctx, "ContainerPause", func() error { return c.engine.pauseContainer(name, true) })
}

func (c *Client) ContainerRemove(ctx context.Context, name string, options container.RemoveOptions) error {
	return c.call(ctx, "ContainerRemove", func() error { return c.engine.removeContainer(name, options.Force) })
}

func (c *Client) ContainerStart(ctx context.Context, name string, _ container.StartOptions) error {
	return c.call(ctx, "ContainerStart", func() error { return c.engine.startContainer(name) })
}

func (c *Client) ContainerStop(ctx context.Context, name string, _ container.StopOptions) error {
	return c.call(ctx, "ContainerStop", func() error { return c.engine.stopContainer(name) })
}

func (c *Client) ContainerUnpause(ctx context.Context, name string) error {
	return c.call(ctx, "ContainerUnpause", func() error { return c.engine.pauseContainer(name, false) })
}

func (c *Client) ContainerWait(ctx context.Context, name string, condition container.WaitCondition) (<-chan container.WaitResponse, <-chan error) {
	if w := c.weather(ctx, "ContainerWait"); w.Refuse != nil {
		failures := make(chan error, 1)
		failures <- w.Refuse
		return make(chan container.WaitResponse), failures
	}
	return c.engine.waitContainer(ctx, name, condition)
}

func (c *Client) NetworkCreate(ctx context.Context, name string, options network.CreateOptions) (network.CreateResponse, error) {
	return ask(ctx, c, "NetworkCreate", func() (network.CreateResponse, error) { return c.engine.createNetwork(name, options) })
}

func (c *Client) NetworkDisconnect(ctx context.Context, name, containerName string, force bool) error {
	return c.call(ctx, "NetworkDisconnect", func() error { return c.engine.disconnect(name, containerName, force) })
}

func (c *Client) NetworkInspect(ctx context.Context, name string, _ network.InspectOptions) (network.Inspect, error) {
	return ask(ctx, c, "NetworkInspect", func() (network.Inspect, error) { return c.engine.inspectNetwork(name) })
}

func (c *Client) NetworkList(ctx context.Context, options network.ListOptions) ([]network.Summary, error) {
	return ask(ctx, c, "NetworkList", func() ([]network.Summary, error) { return c.engine.listNetworks(options.Filters), nil })
}

func (c *Client) NetworkRemove(ctx context.Context, name string) error {
	return c.call(ctx, "NetworkRemove", func() error { return c.engine.removeNetwork(name) })
}

func (c *Client) BuildCancel(ctx context.Context, _ string) error {
	return c.call(ctx, "BuildCancel", func() error { return nil })
}

func (c *Client) ImageBuild(ctx context.Context, body io.Reader, options build.ImageBuildOptions) (build.ImageBuildResponse, error) {
	return ask(ctx, c, "ImageBuild", func() (build.ImageBuildResponse, error) { return c.engine.buildImage(body, options) })
}

func (c *Client) ImageInspect(ctx context.Context, ref string, _ ...client.ImageInspectOption) (image.InspectResponse, error) {
	return ask(ctx, c, "ImageInspect", func() (image.InspectResponse, error) { return c.engine.inspectImage(ref) })
}

func (c *Client) ImagePull(ctx context.Context, ref string, _ image.PullOptions) (io.ReadCloser, error) {
	return ask(ctx, c, "ImagePull", func() (io.ReadCloser, error) { return c.engine.pullImage(ref) })
}

// ClientVersion returns the API version of the release.
func (c *Client) ClientVersion() string {
	if c.engine.release == Docker20 {
		return "1.41"
	}
	return "1.51"
}

// DialHijack refuses, as engines without BuildKit do.
func (c *Client) DialHijack(_ context.Context, _, proto string, _ map[string][]string) (net.Conn, error) {
	return nil, noUpgrade(proto)
}

func (c *Client) Events(ctx context.Context, options events.ListOptions) (<-chan events.Message, <-chan error) {
	if w := c.weather(ctx, "Events"); w.Refuse != nil {
		failures := make(chan error, 1)
		failures <- w.Refuse
		return make(chan events.Message), failures
	}
	return c.engine.streamEvents(ctx, options)
}

// Ping says that there is but the classic builder.
func (c *Client) Ping(ctx context.Context) (types.Ping, error) {
	return ask(ctx, c, "Ping", func() (types.Ping, error) {
		return types.Ping{OSType: "linux", BuilderVersion: build.BuilderV1}, nil
	})
}

func (c *Client) ServerVersion(ctx context.Context) (types.Version, error) {
	return ask(ctx, c, "ServerVersion", func() (types.Version, error) { return types.Version{Arch: runtime.GOARCH}, nil })
}
