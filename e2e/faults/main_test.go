//go:build e2e && linux

package faults

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/client"
)

// atATime is how many runs of a sweep go on at the same time: most of the time they wait
// for the engine.
const atATime = 4

// pool is what the bottles take their subnets from.
const pool = "10.212.0.0/16"

// suite is what the tests share.
type suite struct {
	run    string // random, part of every name
	dir    string
	config string // DOCKER_CONFIG, with the plugin in it
	plugin string
	bundle string // directory of the bundle's binary
	shared *site
	slugs  atomic.Int64

	private *ownEngine // nil until a test needs it
}

var tests suite // set up by TestMain before the first test

func TestMain(m *testing.M) {
	os.Exit(runAll(m))
}

func runAll(m *testing.M) (status int) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}
	ctx := context.Background()
	defer func() { fail(tests.close(ctx)) }()
	if err := tests.open(ctx); err != nil {
		fail(err)
		return status
	}
	return m.Run()
}

func (s *suite) open(ctx context.Context) (err error) {
	s.run = strings.ToLower(rand.Text()[:6])
	if s.dir, err = os.MkdirTemp("", "docker-bottle-flt-"); err != nil {
		return err
	}
	s.config = filepath.Join(s.dir, "config")
	s.plugin = filepath.Join(s.config, "cli-plugins", "docker-bottle")
	s.bundle = filepath.Join(s.dir, "bundle")
	if err := s.compile(ctx, s.plugin, "../../cmd/docker-bottle", false); err != nil {
		return err
	}
	if err := s.compile(ctx, filepath.Join(s.bundle, "bundle"), "./testdata/bundle", false); err != nil {
		return err
	}
	engine, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return err
	}
	dial := engine.Dialer()
	s.shared = &site{
		engine:  engine,
		dial:    dial,
		command: exec.Command,
		reach:   func(address string) (net.Conn, error) { return net.DialTimeout("tcp", address, dialTimeout) },
	}
	return s.shared.build(ctx)
}

// compile builds a static program, or one with the race detector.
func (s *suite) compile(ctx context.Context, out, dir string, race bool) error {
	args := []string{"build", "-ldflags", "-s -w", "-o", out}
	cgo := "CGO_ENABLED=0"
	if race {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	cmd := exec.CommandContext(ctx, "go", append(args, dir)...)
	cmd.Env = append(os.Environ(), cgo)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, output)
	}
	return nil
}

func (s *suite) close(ctx context.Context) error {
	var errs []error
	if s.shared != nil {
		left, err := s.shared.sweep(ctx, s.prefix())
		if len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("the tests left on the engine: %s", strings.Join(left, ", ")))
		}
		errs = append(errs, err, s.shared.removeImages(ctx), s.shared.engine.Close())
	}
	if s.private != nil {
		errs = append(errs, s.private.close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// prefix starts the name of all that this run makes.
func (s *suite) prefix() string { return "flt-" + s.run + "-" }

// slug returns a slug that was not used before.
func (s *suite) slug() string { return fmt.Sprintf("%s%d", s.prefix(), s.slugs.Add(1)) }
