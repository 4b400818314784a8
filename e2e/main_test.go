//go:build e2e && unix

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/client"
	"github.com/rogpeppe/go-internal/testscript"
)

const (
	pluginVersion = "v0.0.0-e2e"
	pluginCommit  = "0123456"
)

// suite is what the scripts of one run share.
type suite struct {
	run    string // random, part of every name
	dir    string
	plugin string
	server string // the image of testdata/server
	host   string // the engine's address
	engine *client.Client

	docker      int // major versions
	engineMajor int

	mu   sync.Mutex
	nets []string // first three octets of free /24 subnets
}

var scripts = flag.String("scripts", "testdata/*.txtar", "run only the scripts that match the `pattern`")

func TestScripts(t *testing.T) {
	s, err := newSuite(t.Context())
	if s != nil {
		t.Cleanup(func() {
			if err := s.close(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(*scripts)
	if err != nil {
		t.Fatal(err)
	}
	// The cleanup above waits for the scripts, which run in parallel to each other.
	testscript.Run(t, testscript.Params{
		Files:              files,
		Setup:              s.setup,
		Condition:          s.condition,
		Cmds:               s.commands(),
		RequireUniqueNames: true,
	})
}

// TestMain lets more scripts run at a time than there are processors: most of the time
// they wait for the engine.
func TestMain(m *testing.M) {
	flag.Parse()
	isSet := false
	flag.Visit(func(f *flag.Flag) { isSet = isSet || f.Name == "test.parallel" })
	if !isSet {
		if err := flag.Set("test.parallel", "4"); err != nil {
			panic(err) // package testing has the flag
		}
	}
	os.Exit(m.Run())
}

// newSuite builds the plugin and the server's image. What it returns needs to be closed
// even with an error.
func newSuite(ctx context.Context) (*suite, error) {
	s := &suite{run: strings.ToLower(rand.Text()[:6])}
	s.server = "docker-bottle-e2e-" + s.run + "-server"
	var err error
	if s.dir, err = os.MkdirTemp("", "docker-bottle-e2e-"); err != nil {
		return s, err
	}
	if err := s.findEngine(ctx); err != nil {
		return s, err
	}
	if s.nets, err = freeNets(ctx, s.engine); err != nil {
		return s, err
	}
	if archives, err := filepath.Glob("../pkg/sidecars/context/*.gz"); err != nil || len(archives) == 0 {
		if _, err := output(ctx, nil, "../scripts/build-bundle"); err != nil {
			return s, err
		}
	}
	s.plugin = filepath.Join(s.dir, "config", "cli-plugins", "docker-bottle")
	static := append(os.Environ(), "CGO_ENABLED=0")
	ldflags := fmt.Sprintf("-X main.version=%s -X main.commit=%s", pluginVersion, pluginCommit)
	if _, err := output(ctx, static, "go", "build", "-ldflags", ldflags, "-o", s.plugin, "../cmd/docker-bottle"); err != nil {
		return s, err
	}
	return s, s.buildServer(ctx, append(static, "GOOS=linux"))
}

// findEngine takes the engine that the docker command uses, and tells versions.
func (s *suite) findEngine(ctx context.Context) error {
	host, err := output(ctx, nil, "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
	if err != nil {
		return err
	}
	if s.host = os.Getenv("DOCKER_HOST"); s.host == "" {
		s.host = host
	}
	version, err := output(ctx, nil, "docker", "version", "--format", "{{.Client.Version}} {{.Server.Version}} {{.Server.Arch}}")
	if err != nil {
		return fmt.Errorf("the scripts need an engine: %w", err)
	}
	words := strings.Fields(version)
	if len(words) != 3 {
		return fmt.Errorf("docker version says %q", version)
	}
	if s.docker, err = major(words[0]); err != nil {
		return err
	}
	if s.engineMajor, err = major(words[1]); err != nil {
		return err
	}
	s.engine, err = client.NewClientWithOpts(client.FromEnv, client.WithHost(s.host), client.WithAPIVersionNegotiation())
	return err
}

func major(version string) (int, error) {
	first, _, _ := strings.Cut(version, ".")
	return strconv.Atoi(first)
}

// buildServer makes the server's image with the plugin, which is a test of its own.
func (s *suite) buildServer(ctx context.Context, environ []string) error {
	info, err := s.engine.ServerVersion(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, "server")
	environ = append(environ, "GOARCH="+info.Arch)
	if _, err := output(ctx, environ, "go", "build", "-ldflags", "-s -w", "-o", filepath.Join(dir, "server"), "./testdata/server"); err != nil {
		return err
	}
	dockerfile := "FROM scratch\nCOPY server /server\nENTRYPOINT [\"/server\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return err
	}
	_, err = output(ctx, append(os.Environ(), s.dockerEnv(filepath.Join(s.dir, "config"))...), "docker", "bottle", "build", "-q", "-t", s.server, dir)
	return err
}

func (s *suite) close() error {
	var errs []error
	if s.engine != nil {
		errs = append(errs, s.remove(context.Background(), s.run), s.engine.Close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// dockerEnv points the docker command to a configuration and to the engine.
func (s *suite) dockerEnv(config string) []string {
	environ := []string{"DOCKER_CONFIG=" + config, "DOCKER_HOST=" + s.host}
	for _, name := range []string{"DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION"} {
		if value := os.Getenv(name); value != "" {
			environ = append(environ, name+"="+value)
		}
	}
	return environ
}

// script is what the commands know of the script that runs them.
type script struct {
	slug       string
	environ    []string
	status     int // of the last docker command
	background map[string]*background
}

type scriptKey struct{}

func scriptOf(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

func (s *suite) setup(env *testscript.Env) error {
	name := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
	sc := &script{
		slug:       fmt.Sprintf("e2e-%s-%s", name, s.run),
		background: map[string]*background{},
	}
	s.mu.Lock()
	own := s.nets[0]
	s.nets = s.nets[1:]
	s.mu.Unlock()
	config := filepath.Join(env.WorkDir, ".docker")
	if err := os.MkdirAll(filepath.Join(config, "cli-plugins"), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(s.plugin, filepath.Join(config, "cli-plugins", "docker-bottle")); err != nil {
		return err
	}
	env.Vars = append(env.Vars, s.dockerEnv(config)...)
	env.Vars = append(env.Vars,
		"SLUG="+sc.slug,
		"IMAGE=docker-bottle-"+sc.slug,
		"POOL="+pool,
		"NET="+own,
		"SERVER="+s.server,
		"VERSION="+pluginVersion,
		"COMMIT="+pluginCommit,
	)
	env.Values[scriptKey{}] = sc
	sc.environ = env.Vars
	t := env.T().(testing.TB)
	env.Defer(func() {
		sc.kill()
		s.sweep(t, sc)
	})
	return nil
}

// sweep removes what a script has left. Only a script that failed may leave anything.
func (s *suite) sweep(t testing.TB, sc *script) {
	ctx := context.Background() // the test's own has ended
	left, err := s.resources(ctx, sc.slug)
	if err == nil && len(left) > 0 {
		if !t.Failed() {
			t.Errorf("the script left on the engine:\n%s", strings.Join(left, "\n"))
		}
		err = s.remove(ctx, sc.slug)
	}
	if err != nil {
		t.Error(err)
	}
}

func (s *suite) condition(text string) (bool, error) {
	name, least, hasLeast := strings.Cut(text, ":")
	if !hasLeast {
		if name == "ipv6" {
			listener, err := net.Listen("tcp", "[::1]:0")
			if err == nil {
				err = listener.Close()
			}
			return err == nil, nil
		}
		return false, fmt.Errorf("unknown condition %q", text)
	}
	version, err := strconv.Atoi(least)
	switch {
	case err != nil:
		return false, err
	case name == "cli":
		return s.docker >= version, nil
	case name == "engine":
		return s.engineMajor >= version, nil
	}
	return false, fmt.Errorf("unknown condition %q", text)
}

// output runs a command and returns what it prints.
func output(ctx context.Context, environ []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = environ
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, stderr.Bytes())
	}
	return strings.TrimSpace(string(stdout)), nil
}
