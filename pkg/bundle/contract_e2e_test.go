//go:build e2e

package bundle

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
)

func TestContractOnEngine(t *testing.T) {
	api, release := connect(t)
	ref := buildProgram(t, api, "contract")
	onEngine := func(t *testing.T, do func(b *bench)) {
		b := &bench{t: t, ctx: t.Context(), engine: api, release: release, image: ref, net: contractPrefix + "contract"}
		if release == memengine.Docker20 {
			b.duplicate = func(name string, subnet netip.Prefix) string { return duplicateNetwork(t, api, name, subnet, nil) }
		}
		sweep(t, api, contractPrefix+"contract")
		t.Cleanup(func() { sweep(t, api, contractPrefix+"contract") })
		b.newScenery()
		do(b)
	}
	testRefusals(t, onEngine)
	testBehaviours(t, onEngine)
}

// connect returns a client of the engine that the environment names.
func connect(t *testing.T) (*client.Client, memengine.Release) {
	t.Helper()
	api, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	version, err := api.ServerVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	major, _, _ := strings.Cut(version.Version, ".")
	switch n, err := strconv.Atoi(major); {
	case err == nil && n < 25:
		return api, memengine.Docker20
	case err == nil && n < 29:
		return api, memengine.Docker28
	}
	return api, memengine.Docker29
}

// buildProgram builds an image of testdata/program and returns its name.
func buildProgram(t *testing.T, api *client.Client, name string, dockerfile ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./testdata/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the tests' program: %v\n%s", err, out)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ref := contractPrefix + name + ":1"
	lines := append([]string{"FROM scratch", "COPY program /program", `ENTRYPOINT ["/program"]`}, dockerfile...)
	life := &Lifecycle{Engine: api}
	_, err = life.Build(t.Context(), BuildOptions{Tags: []string{ref}, Files: fstest.MapFS{
		"Dockerfile": {Data: []byte(strings.Join(lines, "\n") + "\n"), Mode: 0o644},
		"program":    {Data: program, Mode: 0o755},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := api.ImageRemove(context.WithoutCancel(t.Context()), ref, image.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	return ref
}

// duplicateNetwork creates a network without asking the engine to check its name, which
// Docker 20.10 then does not.
func duplicateNetwork(t *testing.T, api *client.Client, name string, subnet netip.Prefix, labels map[string]string) string {
	t.Helper()
	labelText, err := json.Marshal(labels)
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"Name": %q, "Labels": %s, "IPAM": {"Config": [{"Subnet": %q}]}}`, name, labelText, subnet)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://docker/v"+api.ClientVersion()+"/networks/create", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := api.HTTPClient().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusCreated {
		t.Fatalf("create a second network %s: %s %s %v", name, response.Status, text, err)
	}
	var created network.CreateResponse
	if err := json.Unmarshal(text, &created); err != nil {
		t.Fatal(err)
	}
	return created.ID
}

// sweep removes every container and network whose name contains part.
func sweep(t *testing.T, api *client.Client, part string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	args := filters.NewArgs(filters.Arg("name", part))
	containers, err := api.ContainerList(ctx, container.ListOptions{All: true, Filters: args})
	if err != nil {
		t.Fatal(err)
	}
	life := &Lifecycle{Engine: api}
	for _, c := range containers {
		if err := life.removeContainer(ctx, part, c.ID); err != nil {
			t.Error(err)
		}
	}
	networks, err := api.NetworkList(ctx, network.ListOptions{Filters: args})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		if err := api.NetworkRemove(ctx, n.ID); err != nil {
			t.Error(err)
		}
	}
}
