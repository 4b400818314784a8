//go:build e2e && linux

package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bound is how long a process may take. Nothing that is done to it justifies more: the
// longest wait of its own is for a container's removal.
const bound = 90 * time.Second

// process is the plugin, or the docker command with it, at work.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	ended          chan struct{}
}

// outcome is how a process ended.
type outcome struct {
	status         int // -1 where a signal ended it
	stdout, stderr string
	late           bool
}

// start runs the plugin as docker runs it.
func (s *site) start(t testing.TB, host string, args ...string) *process {
	t.Helper()
	return s.startProgram(t, host, tests.plugin, args...)
}

// startDocker runs the docker command.
func (s *site) startDocker(t testing.TB, host string, args ...string) *process {
	t.Helper()
	return s.startProgram(t, host, "docker", args...)
}

func (s *site) startProgram(t testing.TB, host, program string, args ...string) *process {
	t.Helper()
	p := &process{cmd: s.command(program, append([]string{"bottle"}, args...)...), ended: make(chan struct{})}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + tests.dir, "DOCKER_CONFIG=" + tests.config, "DOCKER_HOST=" + host}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	// A process group of its own, as a terminal gives to a command line.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Error(err)
		close(p.ended)
		return p
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // its state has the exit status
	}()
	return p
}

// signal sends a signal to the process, or, where it is the docker command, to its whole
// process group, as a terminal does.
func (p *process) signal(signal syscall.Signal, group bool) {
	pid := p.cmd.Process.Pid
	if group {
		pid = -pid
	}
	_ = syscall.Kill(pid, signal)
}

func (p *process) wait() outcome {
	var o outcome
	select {
	case <-p.ended:
	case <-time.After(bound):
		o.late = true
		p.signal(syscall.SIGQUIT, true) // a Go program tells where it hangs
		<-p.ended
	}
	o.status = -1
	if p.cmd.ProcessState != nil {
		o.status = p.cmd.ProcessState.ExitCode()
	}
	o.stdout, o.stderr = strings.TrimSpace(p.stdout.String()), strings.TrimSpace(p.stderr.String())
	return o
}

// plugin runs the plugin to its end with nothing in its way.
func (s *site) plugin(t testing.TB, args ...string) outcome {
	t.Helper()
	return s.start(t, s.engine.DaemonHost(), args...).wait()
}

// must runs the plugin to its end with nothing in its way, which has to go well.
func (s *site) must(t testing.TB, args ...string) outcome {
	t.Helper()
	o := s.plugin(t, args...)
	if o.status != 0 || o.late {
		t.Errorf("docker bottle %s: %s", strings.Join(args, " "), o)
	}
	return o
}

func (o outcome) String() string {
	return fmt.Sprintf("exit status %d, %q, %q", o.status, o.stdout, o.stderr)
}

// check returns nil if the process ended in time, and well or with one clear message.
func (o outcome) check() error {
	switch {
	case o.late:
		return fmt.Errorf("it still ran after %s: %s", bound, o.stderr)
	case o.status == 0:
		return nil
	case o.stderr == "":
		return errors.New("it failed and said nothing")
	case strings.Contains(o.stderr, "panic:") || strings.Contains(o.stderr, "goroutine "):
		return errors.New("it panicked")
	case strings.HasPrefix(o.stderr, "error during connect"), strings.HasPrefix(o.stderr, "Error response"):
		return errors.New("it did not say what it was doing")
	case strings.Contains(o.stderr, `{"`):
		return errors.New("it printed raw JSON")
	}
	messages := 0
	for line := range strings.Lines(o.stderr) {
		// Warnings come before the message; log lines after it are indented.
		if !strings.HasPrefix(line, "WARNING: ") && !strings.HasPrefix(line, "    ") {
			messages++
		}
	}
	if messages != 1 {
		return fmt.Errorf("it printed %d messages", messages)
	}
	return nil
}

// isBusy reports whether a process gave way to another one.
func (o outcome) isBusy() bool {
	return o.status == 1 && strings.Contains(o.stderr, "somebody else is changing this bottle")
}
