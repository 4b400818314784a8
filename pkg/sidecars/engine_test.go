//go:build e2e && linux

package sidecars_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
	"github.com/tonistiigi/fsutil"
)

// hang is when a test is taken to wait for what does not come.
const hang = time.Minute

// unique returns a name for an object on the engine that is the test's own.
func unique() string {
	prefix := cmp.Or(os.Getenv("BOTTLE_TEST_PREFIX"), "bottle-test-")
	return prefix + strings.ToLower(rand.Text()[:10])
}

// docker runs the docker command and returns what it wrote. It fails the test if
// the command fails.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// classicBuild builds the directory dir with the engine's classic builder.
func classicBuild(t *testing.T, dir, image string) {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	buildImage(t, connect(t), &archive, build.ImageBuildOptions{Tags: []string{image}, Remove: true, ForceRemove: true})
}

// buildkitBuild builds it with the engine's BuildKit.
func buildkitBuild(t *testing.T, dir, image string) {
	t.Helper()
	files, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := session.NewSession(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Allow(filesync.NewFSSyncProvider(filesync.StaticDirSource{"context": files, "dockerfile": files}))
	engine := connect(t)
	go s.Run(t.Context(), func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
		return engine.DialHijack(ctx, "/session", proto, meta)
	})
	buildImage(t, engine, nil, build.ImageBuildOptions{
		Tags: []string{image}, Version: build.BuilderBuildKit, SessionID: s.ID(), RemoteContext: "client-session",
	})
}

func buildImage(t *testing.T, engine *client.Client, context io.Reader, options build.ImageBuildOptions) {
	t.Helper()
	answer, err := engine.ImageBuild(t.Context(), context, options)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	t.Cleanup(func() { docker(t, "image", "rm", options.Tags[0]) })
	for d := json.NewDecoder(answer.Body); ; {
		var message struct{ Error string }
		if err := d.Decode(&message); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		if message.Error != "" {
			t.Fatalf("build: %s", message.Error)
		}
	}
}

func connect(t *testing.T) *client.Client {
	t.Helper()
	engine, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return engine
}

// container is a running bundle.
type container struct {
	t       *testing.T
	name    string
	started time.Time
}

// runBundle starts a container from image, with arguments of docker run, and
// removes it in the end.
func runBundle(t *testing.T, image string, args ...string) *container {
	t.Helper()
	c := &container{t: t, name: unique()}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", c.log())
		}
		docker(t, "rm", "-f", c.name)
	})
	args = append([]string{"run", "--detach", "--name", c.name}, args...)
	docker(t, append(args, image)...)
	c.started = c.time("{{json .State.StartedAt}}")
	return c
}

func (c *container) log() string {
	c.t.Helper()
	return docker(c.t, "logs", c.name)
}

func (c *container) inspect(format string) string {
	c.t.Helper()
	return docker(c.t, "inspect", "--format", format, c.name)
}

func (c *container) time(format string) time.Time {
	c.t.Helper()
	var at time.Time
	if err := json.Unmarshal([]byte(c.inspect(format)), &at); err != nil {
		c.t.Fatal(err)
	}
	return at
}

// awaitLog waits for the nth line that matches, and returns its submatches.
func (c *container) awaitLog(nth int, pattern string) []string {
	c.t.Helper()
	re := regexp.MustCompile(`(?m)^` + pattern + `$`)
	var found []string
	eventually(c.t, "line "+strconv.Itoa(nth)+" of "+pattern, func() bool {
		if all := re.FindAllStringSubmatch(c.log(), nth); len(all) == nth {
			found = all[nth-1]
			return true
		}
		return false
	})
	return found
}

func (c *container) awaitHealth(want string) {
	c.t.Helper()
	eventually(c.t, "health "+want, func() bool { return c.inspect("{{.State.Health.Status}}") == want })
}

// exited waits for the end of the container and returns its exit status.
func (c *container) exited() int {
	c.t.Helper()
	eventually(c.t, "the container has ended", func() bool { return c.inspect("{{.State.Status}}") == "exited" })
	status, err := strconv.Atoi(c.inspect("{{.State.ExitCode}}"))
	if err != nil {
		c.t.Fatal(err)
	}
	return status
}

// pids returns the process ids, on the host, of the processes in the container
// whose command line ends like this. The engine must be on this machine.
func (c *container) pids(command string) []int {
	c.t.Helper()
	var pids []int
	for line := range strings.Lines(docker(c.t, "top", c.name, "-eo", "pid,args")) {
		fields := strings.Fields(line)
		if pid, err := strconv.Atoi(fields[0]); err == nil && strings.HasSuffix(strings.TrimSpace(line), command) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (c *container) pid(command string) int {
	c.t.Helper()
	pids := c.pids(command)
	if len(pids) != 1 {
		c.t.Fatalf("%d processes %q", len(pids), command)
	}
	return pids[0]
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	timeout := time.After(hang)
	for !condition() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-timeout:
			t.Fatalf("%s: not so", what)
		}
	}
}

// compileHello returns a directory with the static binary hello and a Dockerfile
// that derives an image from base.
func compileHello(t *testing.T, base string) string {
	t.Helper()
	dir := t.TempDir()
	compile := exec.Command("go", "build", "-o", filepath.Join(dir, "hello"), "./testdata/hello")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+engineArch(t))
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dockerfile := "FROM " + base + `
COPY hello /daemons/hello
COPY hello /daemons/hello.health
LABEL bot-bottle.daemons="hello,egress"
`
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func engineArch(t *testing.T) string {
	t.Helper()
	return docker(t, "version", "--format", "{{.Server.Arch}}")
}
