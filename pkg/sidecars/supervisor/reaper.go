//go:build linux

package supervisor

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reaper starts processes and is the only one that waits for them, and for
// the orphans that the kernel hands to this process. Waiting for any child
// would otherwise take the exit status from under whoever waits for a
// particular one, and waiting for particular ones would leave the orphans.
// So nothing else in the process may wait: no os/exec, no os.Process.Wait.
type reaper struct {
	// mu is held while a process is started, so that it is known before it can
	// be reaped, and while one is reaped or signalled, so that no signal goes
	// to a number that the kernel has given away meanwhile.
	mu       sync.Mutex
	children map[int]*process
}

// process is a started child, the leader of a process group of its own.
type process struct {
	reaper *reaper
	pid    int

	exited chan struct{}      // closed when the child has been reaped
	status syscall.WaitStatus // valid once exited is closed
}

func newReaper() *reaper {
	return &reaper{children: make(map[int]*process)}
}

// run reaps until ctx is done.
func (r *reaper) run(ctx context.Context) {
	// A signal that comes while another is pending is dropped, and does not
	// matter: the sweep that follows sees every child.
	sigchld := make(chan os.Signal, 1)
	signal.Notify(sigchld, unix.SIGCHLD)
	defer signal.Stop(sigchld)
	for {
		for r.reapOne() {
		}
		select {
		case <-sigchld:
		case <-ctx.Done():
			return
		}
	}
}

// start starts the executable at path as a child without standard input, in this
// process's environment with the entries of env in place of those of their names.
// The caller keeps its copies of stdout and stderr.
func (r *reaper) start(path string, argv, env []string, stdout, stderr *os.File) (*process, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	started, err := os.StartProcess(path, argv, &os.ProcAttr{
		Env:   withEntries(os.Environ(), env),
		Files: []*os.File{null, stdout, stderr},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return nil, err
	}
	p := &process{reaper: r, pid: started.Pid, exited: make(chan struct{})}
	r.children[p.pid] = p
	_ = started.Release() // cannot fail on a process that is not waited for
	return p, nil
}

// reapOne reaps one child that has ended, and reports whether there was one.
func (r *reaper) reapOne() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid := exitedChild()
	if pid == 0 {
		return false
	}
	p := r.children[pid]
	if p != nil {
		// While its leader is not reaped, nobody else can have the group's number.
		_ = unix.Kill(-pid, unix.SIGKILL)
	}
	var status syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	if p != nil {
		delete(r.children, pid)
		p.status = status
		close(p.exited)
	}
	return true
}

// exitedChild returns the process id of a child that has ended and is not
// reaped yet, or 0 where there is none. It does not reap it.
func exitedChild() int {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil { // ECHILD
			return 0
		}
		break
	}
	// What follows the three leading integers of siginfo_t depends on the signal,
	// and the unix package leaves it unnamed. For SIGCHLD it begins with the
	// process id (sigaction(2)), aligned as a pointer is.
	sigchld := (*struct {
		_   [3]int32
		_   [unsafe.Sizeof(uintptr(0)) - 4]byte
		pid int32
	})(unsafe.Pointer(&info))
	return int(sigchld.pid)
}

// signal sends sig to the process itself; one that has ended gets nothing.
func (p *process) signal(sig unix.Signal) { p.kill(p.pid, sig) }

// signalGroup sends sig to the process and to all it has started, but for those
// that have left its process group.
func (p *process) signalGroup(sig unix.Signal) { p.kill(-p.pid, sig) }

func (p *process) kill(target int, sig unix.Signal) {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	if p.reaper.children[p.pid] == p {
		_ = unix.Kill(target, sig)
	}
}

// err says how the process ended, nil for status 0. It may be called once exited
// is closed. It reads as the end of a sentence about the process.
func (p *process) err() error {
	switch {
	case p.status.Signaled():
		return fmt.Errorf("was killed by %s", unix.SignalName(p.status.Signal()))
	case p.status.ExitStatus() != 0:
		return fmt.Errorf("exited with status %d", p.status.ExitStatus())
	}
	return nil
}
