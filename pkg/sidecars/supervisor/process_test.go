//go:build linux

package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestOrphansAreReaped checks that orphans vanish, by the dozen, while each
// health check, also a child, still gets its own exit status.
func TestOrphansAreReaped(t *testing.T) {
	b := start(t, Limits{ReadyWait: time.Millisecond}, "orphans", "watched")
	b.awaitPid(1, "watched")
	failing := filepath.Join(b.dir, "watched.health") + ` exited with status 1: the backend is away\x0aand so on`
	for i := range 40 {
		if i == 20 {
			b.touch("well")
			failing = ""
		}
		want := []Status{{Daemon: "orphans"}, {Daemon: "watched", Problem: failing}}
		if diff := cmp.Diff(want, b.health()); diff != "" {
			t.Fatalf("health %d (-want +got):\n%s", i, diff)
		}
	}
	orphans := b.awaitPid(1, "orphans")
	if err := unix.Kill(orphans, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// Now that nothing new comes, all that is left is the daemons.
	eventually(t, "no children but the daemons", func() bool {
		return len(childrenOf(t, b.cmd.Process.Pid)) == 2
	})
}

// childrenOf returns the children of a process, zombies included.
func childrenOf(t *testing.T, parent int) []int {
	t.Helper()
	var children []int
	for _, pid := range processes(t) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // gone meanwhile
		}
		// "pid (name) state ppid ...", where the name may be anything.
		fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
		if fields[1] == strconv.Itoa(parent) {
			children = append(children, pid)
		}
	}
	return children
}

// TestWhatADaemonLeavesBehind kills a daemon that has started others.
func TestWhatADaemonLeavesBehind(t *testing.T) {
	b := start(t, Limits{Backoff: time.Millisecond}, "leaves")
	inGroup := number(t, b.await(1, `leaves \| in (\d+)`)[1])
	outside := number(t, b.await(1, `leaves \| out (\d+)`)[1])
	if err := unix.Kill(b.awaitPid(1, "leaves"), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rest of its group is killed and reaped", func() bool { return !exists(inGroup) })
	// The one that has left the group holds the pipes, but not the daemon up.
	b.awaitPid(2, "leaves")
	if !slices.Contains(childrenOf(t, b.cmd.Process.Pid), outside) {
		t.Errorf("the process outside the group was killed or not adopted")
	}
	if err := unix.Kill(outside, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the orphan is reaped", func() bool { return !exists(outside) })
}

// TestStopsThoughNobodyReadsTheLog fills the pipe that is the log.
func TestStopsThoughNobodyReadsTheLog(t *testing.T) {
	b := prepare(t, Limits{Grace: 50 * time.Millisecond}, "talks")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	b.cmd.Stdout = write
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	capacity, err := unix.FcntlInt(read.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pipe is full", func() bool {
		buffered, err := unix.IoctlGetInt(int(read.Fd()), unix.TIOCINQ)
		return err == nil && buffered > capacity-4096
	})
	b.signal(unix.SIGTERM)
	timer := time.AfterFunc(hang, b.killAll)
	defer timer.Stop()
	_ = b.cmd.Wait()
	if got := b.cmd.ProcessState.ExitCode(); got != ExitFailure {
		t.Errorf("status %d, want %d", got, ExitFailure)
	}
}

func TestSupervisorOutlivesTheReaderOfItsLog(t *testing.T) {
	b := prepare(t, Limits{}, "talks", "good")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	b.cmd.Stdout = write
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	_ = read.Close()
	eventually(t, "healthy", func() bool {
		statuses, err := AskHealth(t.Context(), b.address)
		return err == nil && cmp.Equal([]Status{{Daemon: "talks"}, {Daemon: "good"}}, statuses)
	})
	b.signal(unix.SIGTERM)
	timer := time.AfterFunc(hang, b.killAll)
	defer timer.Stop()
	_ = b.cmd.Wait()
	if got := b.cmd.ProcessState.ExitCode(); got != ExitOK {
		t.Errorf("status %d, want %d", got, ExitOK)
	}
}
