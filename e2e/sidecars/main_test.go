//go:build e2e && unix

package sidecars

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pool is what the bottles take their subnets from.
const pool = "10.211.0.0/16"

// suite is what the tests share.
type suite struct {
	run    string // random, part of every name
	dir    string
	images struct {
		bundle, pipelock, peer string
	}
}

var tests suite // set up by TestMain before the first test

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) (status int) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}
	defer func() { fail(tests.close()) }()
	if err := tests.open(); err != nil {
		fail(err)
		return status
	}
	return m.Run()
}

// open installs the plugin in a configuration directory of the run's own and builds the
// images with it.
func (s *suite) open() (err error) {
	s.run = strings.ToLower(rand.Text()[:6])
	if s.dir, err = os.MkdirTemp("", "docker-bottle-pl-"); err != nil {
		return err
	}
	// What is run is the supervisor as it is now, whatever was compiled before.
	if _, err := output(nil, "../../scripts/build-bundle"); err != nil {
		return err
	}
	host, err := output(nil, "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
	if err != nil {
		return err
	}
	config := filepath.Join(s.dir, "config")
	if err := compile(filepath.Join(config, "cli-plugins", "docker-bottle"), "../../cmd/docker-bottle"); err != nil {
		return err
	}
	if os.Getenv("DOCKER_HOST") == "" {
		if err := os.Setenv("DOCKER_HOST", host); err != nil {
			return err
		}
	}
	if err := os.Setenv("DOCKER_CONFIG", config); err != nil {
		return err
	}
	for name, image := range map[string]*string{"bundle": &s.images.bundle, "pipelock": &s.images.pipelock, "peer": &s.images.peer} {
		*image = s.image(name)
	}
	if _, err := output(nil, "docker", "bottle", "build", "-q", "-t", s.images.bundle); err != nil {
		return err
	}
	if err := s.buildProgram("peer", s.images.peer, ""); err != nil {
		return err
	}
	// pipelock's image has the certificates too.
	return s.buildProgram("pipelock", s.images.pipelock, "COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt\n")
}

// image returns the name of an image of this run.
func (s *suite) image(name string) string { return "docker-bottle-pl-" + s.run + "-" + name }

// buildProgram builds an image of a program in testdata.
func (s *suite) buildProgram(name, image, more string) error {
	arch, err := output(nil, "docker", "version", "--format", "{{.Server.Arch}}")
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, name)
	if err := compile(filepath.Join(dir, name), "./testdata/"+name, "GOOS=linux", "GOARCH="+arch); err != nil {
		return err
	}
	dockerfile := fmt.Sprintf("FROM scratch\nCOPY %[1]s /%[1]s\n%[2]sENTRYPOINT [\"/%[1]s\"]\n", name, more)
	for file, text := range map[string]string{"Dockerfile": dockerfile, "ca-certificates.crt": "# none\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	_, err = output(nil, "docker", "bottle", "build", "-q", "-t", image, dir)
	return err
}

func compile(out, dir string, environ ...string) error {
	_, err := output(append(environ, "CGO_ENABLED=0"), "go", "build", "-ldflags", "-s -w", "-o", out, dir)
	return err
}

// close removes the images. What the tests made they have removed themselves.
func (s *suite) close() error {
	var errs []error
	if s.images.bundle != "" {
		list, err := output(nil, "docker", "image", "ls", "--format", "{{.Repository}}", "--filter", "reference=docker-bottle-pl-"+s.run+"-*")
		errs = append(errs, err)
		for _, image := range strings.Fields(list) {
			_, err := output(nil, "docker", "image", "rm", image)
			errs = append(errs, err)
		}
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// output runs a command, with additions to the environment, and returns what it prints.
func output(environ []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Env = append(os.Environ(), environ...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", cmd, err, stdout, stderr.Bytes())
	}
	return strings.TrimSpace(string(stdout)), nil
}
