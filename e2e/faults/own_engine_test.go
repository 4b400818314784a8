//go:build e2e && linux

package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"
)

// leaveOut is the variable that leaves out the tests which need an engine of their own.
const leaveOut = "DOCKER_BOTTLE_NO_OWN_ENGINE"

// ownEngine is an engine of the tests' own, to be killed at will: its data, its network
// namespace and all of its processes are its own.
type ownEngine struct {
	*site
	dir    string
	holder *exec.Cmd // keeps the namespaces while the engine is down
	hold   io.Closer // ends the holder
	daemon *exec.Cmd
	gone   chan struct{} // closed when the daemon has ended
	log    *os.File
}

// own returns the engine of the tests' own, which the first caller starts. A test that can
// not have it fails: not to have run is nothing to pass over.
func (s *suite) own(t *testing.T) *ownEngine {
	t.Helper()
	if os.Getenv(leaveOut) != "" {
		t.Skipf("left out: %s is set", leaveOut)
	}
	if s.private != nil {
		return s.private
	}
	e, err := newOwnEngine(t.Context(), filepath.Join(s.dir, "engine"))
	if err != nil {
		t.Fatalf("NOT RUN: this test needs an engine of its own to kill, in network and mount namespaces of its own.\n"+
			"It takes root's rights, dockerd, unshare, nsenter and ip. Set %s=1 to leave such tests out.\n%v", leaveOut, err)
	}
	s.private = e
	return e
}

// namespaces is run in new network and mount namespaces. The engine finds its bridges in
// /sys, which is mounted anew for the namespace, with the control groups put back.
const namespaces = `set -e
mkdir "$0/cgroup"
mount --rbind /sys/fs/cgroup "$0/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$0/cgroup" /sys/fs/cgroup
ip link set lo up
echo ready
exec cat`

func newOwnEngine(ctx context.Context, dir string) (*ownEngine, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("this is not root")
	}
	for _, program := range []string{"dockerd", "unshare", "nsenter", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	e := &ownEngine{dir: dir}
	if err := e.open(ctx); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func (e *ownEngine) open(ctx context.Context) (err error) {
	if err := os.WriteFile(e.path("daemon.json"), []byte("{}"), 0o644); err != nil {
		return err
	}
	if e.log, err = os.Create(e.path("log")); err != nil {
		return err
	}
	e.holder = exec.Command("unshare", "--net", "--mount", "--propagation", "slave", "sh", "-c", namespaces, e.dir)
	e.holder.Stderr = e.log
	if e.hold, err = e.holder.StdinPipe(); err != nil {
		return err
	}
	ready, err := e.holder.StdoutPipe()
	if err != nil {
		return err
	}
	if err := e.holder.Start(); err != nil {
		return err
	}
	if _, err := io.ReadFull(ready, make([]byte, len("ready\n"))); err != nil {
		return fmt.Errorf("namespaces: %w: %s", err, e.lastLog())
	}
	engine, err := client.NewClientWithOpts(client.WithHost("unix://"+e.path("socket")), client.WithAPIVersionNegotiation())
	if err != nil {
		return err
	}
	e.site = &site{
		engine: engine,
		dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", e.path("socket"))
		},
		command: e.inside,
		reach:   e.reachInside,
	}
	if err := e.start(ctx); err != nil {
		return err
	}
	return e.build(ctx)
}

func (e *ownEngine) path(name string) string { return filepath.Join(e.dir, name) }

// cgroup is the parent of the containers' control groups.
func (e *ownEngine) cgroup() string { return strings.TrimSuffix(tests.prefix(), "-") }

// inside returns a command that runs in the namespaces, with the command's own PID.
func (e *ownEngine) inside(name string, args ...string) *exec.Cmd {
	target := strconv.Itoa(e.holder.Process.Pid)
	return exec.Command("nsenter", append([]string{"--net", "--mount", "--target", target, name}, args...)...)
}

// reachInside connects from within the network namespace.
func (e *ownEngine) reachInside(address string) (net.Conn, error) {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", e.holder.Process.Pid))
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result)
	go func() {
		// The thread ends with the goroutine, because it stays locked.
		runtime.LockOSThread()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			results <- result{nil, err}
			return
		}
		conn, err := net.DialTimeout("tcp", address, dialTimeout)
		results <- result{conn, err}
	}()
	r := <-results
	return r.conn, r.err
}

// start starts the daemon and returns when it answers.
func (e *ownEngine) start(ctx context.Context) error {
	e.daemon = e.inside("dockerd",
		"--config-file", e.path("daemon.json"),
		"--data-root", e.path("data"),
		"--exec-root", e.path("exec"),
		"--pidfile", e.path("pid"),
		"--host", "unix://"+e.path("socket"),
		"--storage-driver", "vfs",
		"--exec-opt", "native.cgroupdriver=cgroupfs",
		"--cgroup-parent", "/"+e.cgroup(),
		"--bip", "172.31.255.1/24")
	e.daemon.Stdout, e.daemon.Stderr = e.log, e.log
	e.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.daemon.Start(); err != nil {
		return err
	}
	gone := make(chan struct{})
	e.gone = gone
	go func() {
		defer close(gone)
		_ = e.daemon.Wait() // it is killed on purpose
	}()
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	for {
		if _, err := e.engine.Ping(ctx); err == nil {
			return nil
		}
		select {
		case <-gone:
			return fmt.Errorf("dockerd ended: %s", e.lastLog())
		case <-ctx.Done():
			return fmt.Errorf("dockerd does not answer: %s", e.lastLog())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// kill ends the daemon as a crash does. The containers' processes live on until the next
// start. Its containerd dies with it, a moment later: a daemon that starts meanwhile would
// take the old one's PID for a living containerd's and wait for it in vain.
func (e *ownEngine) kill() error {
	containerd := e.containerd()
	if err := e.daemon.Process.Kill(); err != nil {
		return err
	}
	<-e.gone
	deadline := time.Now().Add(30 * time.Second)
	for alive(containerd) {
		if time.Now().After(deadline) {
			return fmt.Errorf("containerd (%d) outlives its dockerd", containerd)
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, name := range []string{"pid", "socket", "exec/containerd/containerd.pid"} {
		if err := os.Remove(e.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (e *ownEngine) containerd() int {
	text, err := os.ReadFile(e.path("exec/containerd/containerd.pid"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// alive reports whether a process runs; one that nobody has waited for does not.
func alive(pid int) bool {
	if pid == 0 {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !bytes.Contains(status, []byte("State:\tZ"))
}

func (e *ownEngine) restart(ctx context.Context) error {
	if err := e.kill(); err != nil {
		return err
	}
	return e.start(ctx)
}

// close ends all that runs and removes what is outside of the engine's directory.
func (e *ownEngine) close() error {
	var errs []error
	if e.daemon != nil && e.daemon.Process != nil {
		_ = e.daemon.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-e.gone:
		case <-time.After(30 * time.Second):
			errs = append(errs, errors.New("dockerd does not stop"), e.kill())
		}
	}
	e.killRest()
	if e.holder != nil && e.holder.Process != nil {
		errs = append(errs, e.hold.Close(), e.holder.Wait())
	}
	if e.log != nil {
		errs = append(errs, e.log.Close())
	}
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		groups, _ := filepath.Glob(pattern + e.cgroup())
		for _, group := range groups {
			inner, _ := filepath.Glob(group + "/*/cgroup.procs")
			for _, file := range inner {
				_ = os.Remove(filepath.Dir(file))
			}
			_ = os.Remove(group) // an empty group that stays does no harm
		}
	}
	return errors.Join(errs...)
}

// killRest kills what a killed daemon has left: processes whose command line names the
// engine's directory, as every containerd and every shim does.
func (e *ownEngine) killRest() {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(line, []byte(e.path("exec"))) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func (e *ownEngine) lastLog() string {
	text, _ := os.ReadFile(e.path("log"))
	return string(text[max(0, len(text)-2000):])
}
