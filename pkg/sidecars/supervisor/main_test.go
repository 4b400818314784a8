//go:build linux

package supervisor

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is all the processes of a bundle: the supervisor, its built-in
// daemons, and, under the names of symbolic links, the executables.
func TestMain(m *testing.M) {
	if program := programs[filepath.Base(os.Args[0])]; program != nil {
		program()
		os.Exit(0)
	}
	switch {
	case len(os.Args) == 2 && os.Args[1] == "supervise":
		os.Exit(superviseForTest())
	case len(os.Args) == 3 && os.Args[1] == "daemon":
		name := os.Args[2]
		err := ServeBuiltin(name, builtins[name], os.Getenv("TEST_ADDRESS"), os.Stdout, os.Stderr)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(ExitStatus(err))
	}
	os.Exit(m.Run())
}

func superviseForTest() int {
	options := Options{
		Daemons:  strings.Split(os.Getenv(EnvDaemons), ","),
		Builtins: builtins,
		Dir:      os.Getenv("TEST_DIR"),
		Address:  os.Getenv("TEST_ADDRESS"),
		Log:      NewLog(os.Stdout, Text),
	}
	if err := json.Unmarshal([]byte(os.Getenv("TEST_LIMITS")), &options.Limits); err != nil {
		panic(err)
	}
	return ExitStatus(Run(options))
}

// bundle is a supervisor under test, a process of its own.
type bundle struct {
	t       *testing.T
	dir     string // of the executables, and of whatever files a test wants
	address string
	cmd     *exec.Cmd

	mu     sync.Mutex
	lines  []string
	ended  bool          // no more lines
	change chan struct{} // closed and replaced with every change of the above
}

// start starts a supervisor with the daemons named. Those that are not built in
// are programs that the test binary knows.
func start(t *testing.T, limits Limits, daemons ...string) *bundle {
	t.Helper()
	b := prepare(t, limits, daemons...)
	b.run()
	return b
}

// run starts what prepare has prepared.
func (b *bundle) run() {
	b.t.Helper()
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go b.read(out)
}

// prepare is start, up to starting.
func prepare(t *testing.T, limits Limits, daemons ...string) *bundle {
	t.Helper()
	t.Parallel()
	dir := t.TempDir()
	for _, name := range daemons {
		for _, program := range []string{name, name + healthSuffix} {
			if programs[program] != nil {
				if err := os.Symlink("/proc/self/exe", filepath.Join(dir, program)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(limits)
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{t: t, dir: dir, address: "@bottle-test/" + rand.Text(), change: make(chan struct{})}
	b.cmd = exec.Command(self, "supervise")
	b.cmd.Env = append(os.Environ(),
		EnvDaemons+"="+strings.Join(daemons, ","),
		"TEST_DIR="+dir,
		"TEST_ADDRESS="+b.address,
		"TEST_LIMITS="+string(encoded),
		"TEST_SECRET=s3cret",
		"GORACE=atexit_sleep_ms=0", // or every process takes a second to end
	)
	b.cmd.Stderr = os.Stderr
	t.Cleanup(func() {
		if b.cmd.Process == nil {
			return
		}
		b.killAll()
		_ = b.cmd.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		log := strings.Join(b.lines, "\n")
		if strings.Contains(log, "s3cret") {
			t.Error("the log has the value of an environment variable")
		}
		if t.Failed() {
			t.Logf("log:\n%s", log)
		}
	})
	return b
}

// killAll kills what is left of the supervisor and of all below it.
func (b *bundle) killAll() {
	marker := "\x00TEST_ADDRESS=" + b.address + "\x00"
	for _, pid := range processes(b.t) {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil && strings.Contains("\x00"+string(env), marker) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func processes(t *testing.T) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (b *bundle) read(r io.Reader) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		b.changed(func() { b.lines = append(b.lines, scanner.Text()) })
	}
	b.changed(func() { b.ended = true })
}

func (b *bundle) changed(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	close(b.change)
	b.change = make(chan struct{})
}

// hang is when a test is taken to wait for what does not come.
const hang = time.Minute

// await waits for the nth line (1 is the first) that matches, and returns its
// submatches.
func (b *bundle) await(nth int, pattern string) []string {
	b.t.Helper()
	re := regexp.MustCompile("^" + pattern + "$")
	timeout := time.After(hang)
	for {
		b.mu.Lock()
		seen := 0
		for _, line := range b.lines {
			if match := re.FindStringSubmatch(line); match != nil {
				if seen++; seen == nth {
					b.mu.Unlock()
					return match
				}
			}
		}
		ended, change := b.ended, b.change
		b.mu.Unlock()
		if ended {
			b.t.Fatalf("the log ended before line %d of %q", nth, pattern)
		}
		select {
		case <-change:
		case <-timeout:
			b.t.Fatalf("no line %d of %q", nth, pattern)
		}
	}
}

// awaitPid waits for the nth start of a daemon and returns its process id.
func (b *bundle) awaitPid(nth int, daemon string) int {
	b.t.Helper()
	return number(b.t, b.await(nth, `supervisor \| `+daemon+` started, pid (\d+)`)[1])
}

func (b *bundle) awaitReady(nth int, daemon string) {
	b.t.Helper()
	b.await(nth, `supervisor \| `+daemon+` ready after .*`)
}

// index returns where in the log the first line with this text is, or -1.
func (b *bundle) index(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, line := range b.lines {
		if strings.Contains(line, text) {
			return i
		}
	}
	return -1
}

func (b *bundle) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(strings.Join(b.lines, "\n"), text)
}

func (b *bundle) signal(sig unix.Signal) {
	b.t.Helper()
	if err := unix.Kill(b.cmd.Process.Pid, sig); err != nil {
		b.t.Fatal(err)
	}
}

// ends waits for the end of the supervisor and of its log, and checks its status.
func (b *bundle) ends(status int) {
	b.t.Helper()
	timer := time.AfterFunc(hang, b.killAll)
	defer timer.Stop()
	for {
		b.mu.Lock()
		ended, change := b.ended, b.change
		b.mu.Unlock()
		if ended {
			break
		}
		<-change
	}
	_ = b.cmd.Wait()
	if got := b.cmd.ProcessState.ExitCode(); got != status {
		b.t.Errorf("the supervisor ended with status %d, want %d", got, status)
	}
}

func (b *bundle) health() []Status {
	b.t.Helper()
	statuses, err := AskHealth(b.t.Context(), b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	return statuses
}

func (b *bundle) file(name string) string { return filepath.Join(b.dir, "."+name) }

func (b *bundle) touch(name string) {
	b.t.Helper()
	if err := os.WriteFile(b.file(name), nil, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// eventually waits for a condition outside the log.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	timeout := time.After(hang)
	for !condition() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-timeout:
			t.Fatalf("%s: not so", what)
		}
	}
}

// exists reports whether there is a process of this number, a zombie included.
func exists(pid int) bool { return unix.Kill(pid, 0) == nil }
