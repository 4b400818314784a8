//go:build e2e && linux

package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
)

const dialTimeout = 2 * time.Second

// site is an engine, and where processes run that use it.
type site struct {
	engine  *client.Client
	dial    func(context.Context) (net.Conn, error)
	command func(name string, args ...string) *exec.Cmd
	reach   func(address string) (net.Conn, error) // from where the site's processes run
	plain   string                                 // image of the bundle
	checked string                                 // the same with a health check
}

// build makes the images of testdata/bundle.
func (s *site) build(ctx context.Context) error {
	s.plain, s.checked = "docker-bottle-flt-"+tests.run+":plain", "docker-bottle-flt-"+tests.run+":checked"
	const plain = "FROM scratch\nCOPY bundle /bundle\nENTRYPOINT [\"/bundle\"]\n"
	const check = "HEALTHCHECK --interval=100ms --timeout=5s --retries=3 CMD [\"/bundle\", \"health\"]\n"
	program, err := os.ReadFile(filepath.Join(tests.bundle, "bundle"))
	if err != nil {
		return err
	}
	life := &bundle.Lifecycle{Engine: s.engine}
	for tag, dockerfile := range map[string]string{s.plain: plain, s.checked: plain + check} {
		files := fstest.MapFS{
			"Dockerfile": {Data: []byte(dockerfile), Mode: 0o644},
			"bundle":     {Data: program, Mode: fs.FileMode(0o755)},
		}
		if _, err := life.Build(ctx, bundle.BuildOptions{Files: files, Tags: []string{tag}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) removeImages(ctx context.Context) error {
	found, err := s.engine.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("reference", "docker-bottle-flt-"+tests.run))})
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range found {
		for _, tag := range i.RepoTags {
			_, err := s.engine.ImageRemove(ctx, tag, image.RemoveOptions{Force: true})
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// objects are what the engine has of a bottle.
type objects struct {
	networks   []network.Summary
	containers []container.Summary
}

func (o objects) String() string {
	var names []string
	for _, n := range o.networks {
		names = append(names, fmt.Sprintf("network %s (%.12s)", n.Name, n.ID))
	}
	for _, c := range o.containers {
		names = append(names, fmt.Sprintf("container %s (%.12s, %s)", strings.TrimPrefix(c.Names[0], "/"), c.ID, c.State))
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

func (o objects) networkID() string {
	if len(o.networks) != 1 {
		return ""
	}
	return o.networks[0].ID
}

func (o objects) containerID() string {
	if len(o.containers) != 1 {
		return ""
	}
	return o.containers[0].ID
}

func (s *site) objects(ctx context.Context, slug string) (objects, error) {
	networks, err := s.engine.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return objects{}, err
	}
	containers, err := s.engine.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return objects{}, err
	}
	return objects{
		networks: slices.DeleteFunc(networks, func(n network.Summary) bool { return n.Name != bundle.NetworkName(slug) }),
		containers: slices.DeleteFunc(containers, func(c container.Summary) bool {
			return !slices.Contains(c.Names, "/"+bundle.ContainerName(slug))
		}),
	}, nil
}

// checkGone returns nil if nothing of a bottle is there.
func (s *site) checkGone(ctx context.Context, slug string) error {
	found, err := s.objects(ctx, slug)
	if err == nil && len(found.networks)+len(found.containers) > 0 {
		err = fmt.Errorf("there is %s", found)
	}
	return err
}

// checkUp returns nil if a bottle has one network, one container that runs and answers at
// its address, which is the second of the subnet.
func (s *site) checkUp(ctx context.Context, slug string) error {
	found, err := s.objects(ctx, slug)
	if err != nil {
		return err
	}
	if found.networkID() == "" || found.containerID() == "" {
		return fmt.Errorf("there is %s", found)
	}
	running, err := s.engine.ContainerInspect(ctx, found.containerID())
	if err != nil {
		return err
	}
	subnet, err := netip.ParsePrefix(found.networks[0].IPAM.Config[0].Subnet)
	if err != nil {
		return err
	}
	want := subnet.Masked().Addr().Next().Next().String()
	endpoint := running.NetworkSettings.Networks[bundle.NetworkName(slug)]
	switch {
	case !running.State.Running:
		return fmt.Errorf("the container is %s", running.State.Status)
	case endpoint == nil || endpoint.NetworkID != found.networkID():
		return errors.New("the container is not in its network")
	case endpoint.IPAddress != want:
		return fmt.Errorf("the container is at %s, not %s", endpoint.IPAddress, want)
	}
	return s.answers(ctx, want)
}

// answers waits until a bundle answers, which it begins to do a moment after its start.
func (s *site) answers(ctx context.Context, address string) error {
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	for {
		conn, err := s.reach(address + ":3128")
		if err == nil {
			var line string
			line, err = bufio.NewReader(conn).ReadString('\n')
			_ = conn.Close()
			if line == "up\n" {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the bundle does not answer at %s: %w", address, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// sentinel is a network and a container that are nobody's bottle and have to stay.
type sentinel struct {
	site               *site
	network, container string // IDs
}

func newSentinel(t *testing.T, s *site) *sentinel {
	t.Helper()
	ctx := t.Context()
	name := tests.slug() + "-foreign"
	created, err := s.engine.NetworkCreate(ctx, name, network.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := &sentinel{site: s, network: created.ID}
	t.Cleanup(func() {
		ctx := context.Background()
		if w.container != "" {
			if err := s.engine.ContainerRemove(ctx, w.container, container.RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		}
		if err := s.engine.NetworkRemove(ctx, w.network); err != nil {
			t.Error(err)
		}
	})
	other, err := s.engine.ContainerCreate(ctx, &container.Config{Image: s.plain}, &container.HostConfig{NetworkMode: container.NetworkMode(name)}, nil, nil, name)
	if err != nil {
		t.Fatal(err)
	}
	w.container = other.ID
	if err := s.engine.ContainerStart(ctx, w.container, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return w
}

// check returns nil if both are there as they were.
func (w *sentinel) check(ctx context.Context) error {
	if _, err := w.site.engine.NetworkInspect(ctx, w.network, network.InspectOptions{}); err != nil {
		return fmt.Errorf("a foreign network: %w", err)
	}
	found, err := w.site.engine.ContainerInspect(ctx, w.container)
	if err != nil {
		return fmt.Errorf("a foreign container: %w", err)
	}
	if !found.State.Running || len(found.NetworkSettings.Networks) != 1 {
		return errors.New("a foreign container was stopped or disconnected")
	}
	return nil
}

// sweep removes all whose name contains the prefix, and returns what it was.
func (s *site) sweep(ctx context.Context, prefix string) (left []string, err error) {
	containers, err := s.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("name", prefix))})
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, c := range containers {
		left = append(left, "container "+c.Names[0])
		if err := s.engine.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true}); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			errs = append(errs, err)
		}
	}
	networks, err := s.engine.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("name", prefix))})
	if err != nil {
		return left, err
	}
	for _, n := range networks {
		left = append(left, "network "+n.Name)
		errs = append(errs, s.engine.NetworkRemove(ctx, n.ID))
	}
	return left, errors.Join(errs...)
}
