//go:build linux

package supervisor

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// long is for limits that a test must not run into.
const long = time.Hour

func TestStartsInOrderAndStopsOnSignal(t *testing.T) {
	b := start(t, Limits{ReadyWait: long}, "gated", "steady", "good")
	gated := b.awaitPid(1, "gated")
	want := []Status{
		{Daemon: "gated", Problem: "stat " + b.file("open") + ": no such file or directory"},
		{Daemon: "steady", Problem: "is not started yet"},
		{Daemon: "good", Problem: "is not started yet"},
	}
	eventually(t, "an answer of the first daemon", func() bool {
		return cmp.Equal(want, b.health())
	})
	b.touch("open")
	b.awaitReady(1, "good")
	b.await(1, `steady \| up`)
	if gate, next := b.index("gated ready"), b.index("steady started"); gate < 0 || next < gate {
		t.Errorf("steady was started before gated was ready")
	}
	if diff := cmp.Diff([]Status{{Daemon: "gated"}, {Daemon: "steady"}, {Daemon: "good"}}, b.health()); diff != "" {
		t.Errorf("health (-want +got):\n%s", diff)
	}
	b.signal(unix.SIGTERM)
	b.ends(ExitOK)
	b.await(1, `gated \| drained`)
	b.await(1, `steady \| got SIGTERM`)
	b.await(1, `supervisor \| steady stopped`)
	b.await(1, `supervisor \| received SIGTERM`)
	if exists(gated) {
		t.Errorf("the process of gated is still there")
	}
}

func TestSIGINTIsHandedOn(t *testing.T) {
	b := start(t, Limits{}, "steady")
	b.await(1, `steady \| up`)
	b.signal(unix.SIGINT)
	b.ends(ExitOK)
	b.await(1, `steady \| got SIGINT`)
}

func TestNextStartsAfterReadyWait(t *testing.T) {
	b := start(t, Limits{ReadyWait: time.Millisecond}, "gated", "good")
	b.awaitReady(1, "good")
	b.await(1, `supervisor \| gated is not ready after 1ms`)
	b.touch("open")
	b.awaitReady(1, "gated")
}

func TestKilledDaemonIsStartedAgain(t *testing.T) {
	for _, daemon := range []string{"good", "steady"} {
		t.Run(daemon, func(t *testing.T) {
			// Down for long enough to be asked.
			b := start(t, Limits{Backoff: time.Second}, daemon, "other")
			b.awaitReady(1, "other")
			first, other := b.awaitPid(1, daemon), b.awaitPid(1, "other")
			if err := unix.Kill(first, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			b.await(1, `supervisor \| `+daemon+` was killed by SIGKILL; restart 1 of 5 in 1s`)
			want := []Status{
				{Daemon: daemon, Problem: "was killed by SIGKILL, and is to be started again"},
				{Daemon: "other"},
			}
			if diff := cmp.Diff(want, b.health()); diff != "" {
				t.Errorf("health (-want +got):\n%s", diff)
			}
			b.awaitReady(2, daemon)
			if second := b.awaitPid(2, daemon); second == first || !exists(second) {
				t.Errorf("the second process is %d, the first was %d", second, first)
			}
			if diff := cmp.Diff([]Status{{Daemon: daemon}, {Daemon: "other"}}, b.health()); diff != "" {
				t.Errorf("health (-want +got):\n%s", diff)
			}
			if !exists(other) || b.count("other started") != 1 {
				t.Errorf("the other daemon did not live on")
			}
		})
	}
}

func TestGivesUp(t *testing.T) {
	for daemon, failure := range map[string]string{
		"crashes": "exited with status 7",
		"panics":  "exited with status 2",
		"quits":   "exited with status 1",
		"mayfly":  "exited with status 0",
	} {
		t.Run(daemon, func(t *testing.T) {
			b := start(t, Limits{Backoff: time.Millisecond, Failures: 2}, "good", daemon)
			b.ends(ExitGaveUp)
			b.await(1, `supervisor \| `+daemon+` `+failure+`; restart 1 of 2 in 1ms`)
			b.await(1, `supervisor \| `+daemon+` `+failure+`; restart 2 of 2 in 2ms`)
			b.await(1, `supervisor \| gave up on `+daemon+`: 3 failures within 1m0s, the last: it `+failure)
			b.await(1, `good \| drained`)
			if got := b.count(daemon + " started"); got != 3 {
				t.Errorf("started %d times, want 3", got)
			}
		})
	}
}

func TestFailuresOutsideTheWindowAreForgotten(t *testing.T) {
	b := start(t, Limits{Backoff: 5 * time.Millisecond, Failures: 1, Window: time.Millisecond}, "crashes")
	b.await(10, `supervisor \| crashes exited with status 7; restart 1 of 1 in 5ms`)
}

func TestBackoffDoublesUpToItsLimit(t *testing.T) {
	limits := Limits{Failures: 1 << 30}.withDefaults()
	var got []time.Duration
	for failures := 1; failures <= 7; failures++ {
		got = append(got, limits.backoff(failures)/time.Millisecond)
	}
	if diff := cmp.Diff([]time.Duration{200, 400, 800, 1600, 3200, 5000, 5000}, got); diff != "" {
		t.Errorf("milliseconds (-want +got):\n%s", diff)
	}
	if got := limits.backoff(limits.Failures); got != limits.MaxBackoff {
		t.Errorf("after very many failures %v", got)
	}
}

func TestRefusedConfigurationIsNotTriedAgain(t *testing.T) {
	b := start(t, Limits{}, "good", "refuses")
	b.ends(ExitConfig)
	b.await(1, `refuses \| refuses refuses its configuration: EGRESS_ALLOW entry 3 is no host`)
	b.await(1, `supervisor \| refuses refuses its configuration`)
	b.await(1, `good \| drained`)
	if got := b.count("refuses started"); got != 1 {
		t.Errorf("started %d times, want 1", got)
	}
}

func TestUnknownDaemonStartsNothing(t *testing.T) {
	b := start(t, Limits{}, "steady", "pipelock", "watched")
	b.ends(ExitUnknown)
	b.await(1, `supervisor \| BOT_BOTTLE_SIDECAR_DAEMONS names an unknown daemon: "pipelock"; `+
		`this image has: gated, good, other, panics, quits, refuses, steady, watched`)
	if b.count("started") > 0 {
		t.Errorf("something was started")
	}
}

func TestFindCommands(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("good", 0o755)
	write("checked", 0o755)
	write("checked.health", 0o755)
	write("readme", 0o644)
	write("mute", 0o755)
	write("mute.health", 0o644)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }

	got, err := findCommands([]string{"other", "good", "checked", "mute"}, builtins, dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []command{
		{name: "other", builtin: true, path: "/proc/self/exe", argv: []string{"bottle-sidecars", "daemon", "other"}},
		{name: "good", path: in("good"), argv: []string{in("good")}}, // over the built-in
		{name: "checked", path: in("checked"), argv: []string{in("checked")}, health: []string{in("checked.health")}},
		{name: "mute", path: in("mute"), argv: []string{in("mute")}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(command{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	_, err = findCommands([]string{"readme", "folder", "dangling"}, nil, dir)
	wantErr := &UnknownDaemonError{
		Names: []string{"readme", "folder", "dangling"},
		Known: []string{"checked", "good", "mute"},
	}
	if diff := cmp.Diff(error(wantErr), err); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	if _, err := findCommands([]string{"good"}, builtins, in("absent")); err != nil {
		t.Errorf("without a directory: %v", err)
	}
}

func TestExecutableThatCannotBeStarted(t *testing.T) {
	b := prepare(t, Limits{Backoff: time.Millisecond, Failures: 1}, "text")
	if err := os.WriteFile(filepath.Join(b.dir, "text"), []byte("words"), 0o755); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	b.cmd.Stdout = &out
	_ = b.cmd.Run()
	if got := b.cmd.ProcessState.ExitCode(); got != ExitGaveUp {
		t.Errorf("status %d, want %d", got, ExitGaveUp)
	}
	want := "the last: it could not be started: fork/exec " + filepath.Join(b.dir, "text") + ": exec format error"
	if !strings.Contains(out.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, out.String())
	}
}

func TestStubbornDaemonIsKilled(t *testing.T) {
	b := start(t, Limits{Grace: 50 * time.Millisecond}, "stubborn", "good")
	b.await(1, `stubborn \| up`)
	b.awaitReady(1, "good")
	pid := b.awaitPid(1, "stubborn")
	b.signal(unix.SIGTERM)
	b.ends(ExitUndrained)
	b.await(1, `good \| drained`)
	b.await(1, `supervisor \| stubborn did not stop within 50ms, killed`)
	b.await(1, `supervisor \| a daemon had to be killed`)
	if exists(pid) {
		t.Errorf("process %d is still there", pid)
	}
}

func TestSIGHUPIsHandedOn(t *testing.T) {
	b := start(t, Limits{ReadyWait: time.Millisecond}, "good", "steady")
	b.await(1, `steady \| up`)
	b.awaitReady(1, "good")
	b.signal(unix.SIGHUP)
	b.await(1, `supervisor \| received SIGHUP`)
	b.await(1, `good \| reloaded`)
	b.await(1, `steady \| got SIGHUP`)
	b.touch("bad")
	b.signal(unix.SIGHUP)
	b.await(1, `good \| SIGHUP: the new configuration is bad`)
	b.signal(unix.SIGTERM)
	b.ends(ExitOK)
	if b.count("restart") > 0 {
		t.Errorf("a daemon died of it")
	}
}

// TestSIGHUPWaitsForABuiltin sends it while the process has hardly begun: it must
// neither die of it nor miss it.
func TestSIGHUPWaitsForABuiltin(t *testing.T) {
	b := start(t, Limits{ReadyWait: long}, "gated")
	b.awaitPid(1, "gated")
	b.signal(unix.SIGHUP)
	b.await(1, `supervisor \| received SIGHUP`)
	b.touch("open")
	b.await(1, `gated \| reloaded`)
	if b.index("gated ready") > b.index("reloaded") {
		t.Errorf("reloaded before it was ready")
	}
}

func TestHealthOfExecutables(t *testing.T) {
	b := start(t, Limits{ReadyWait: time.Millisecond}, "watched", "steady")
	b.awaitReady(1, "steady")
	want := []Status{
		{Daemon: "watched", Problem: filepath.Join(b.dir, "watched.health") +
			` exited with status 1: the backend is away\x0aand so on`},
		{Daemon: "steady"},
	}
	if diff := cmp.Diff(want, b.health()); diff != "" {
		t.Errorf("health (-want +got):\n%s", diff)
	}
	b.touch("well")
	b.awaitReady(1, "watched")
	if diff := cmp.Diff([]Status{{Daemon: "watched"}, {Daemon: "steady"}}, b.health()); diff != "" {
		t.Errorf("health (-want +got):\n%s", diff)
	}
}

func TestHealthCheckThatHangsIsKilled(t *testing.T) {
	b := start(t, Limits{}, "checkhangs")
	b.awaitPid(1, "checkhangs")
	want := []Status{{Daemon: "checkhangs", Problem: filepath.Join(b.dir, "checkhangs.health") +
		" did not end in time: thinking"}}
	if diff := cmp.Diff(want, b.health()); diff != "" {
		t.Errorf("health (-want +got):\n%s", diff)
	}
}

func TestSecondSupervisorAtTheSameAddress(t *testing.T) {
	b := start(t, Limits{}, "good")
	b.awaitReady(1, "good")
	err := Run(Options{
		Daemons: []string{"good"}, Builtins: builtins, Address: b.address, Log: NewLog(t.Output(), Text),
	})
	if ExitStatus(err) != ExitFailure || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error %v", err)
	}
}

func TestLastWordsAreLogged(t *testing.T) {
	b := start(t, Limits{Backoff: time.Millisecond, Failures: 1}, "crashes")
	b.ends(ExitGaveUp)
	if got := b.count("crashes | last words"); got != 2 {
		t.Errorf("%d times, want 2", got)
	}
}

func TestManyAskForHealthAtOnce(t *testing.T) {
	b := start(t, Limits{}, "good", "steady")
	b.awaitReady(1, "steady")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			got, err := AskHealth(t.Context(), b.address)
			if diff := cmp.Diff([]Status{{Daemon: "good"}, {Daemon: "steady"}}, got); err != nil || diff != "" {
				t.Errorf("error %v, health (-want +got):\n%s", err, diff)
			}
		})
	}
	wg.Wait()
}

func TestAskHealthWithoutASupervisor(t *testing.T) {
	if _, err := AskHealth(t.Context(), "@bottle-test/"+t.Name()); err == nil {
		t.Errorf("somebody answered")
	}
}

func TestHealthAddressIsThatOfTheContainer(t *testing.T) {
	got, err := HealthAddress()
	if err != nil {
		t.Fatal(err)
	}
	namespace, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	if want := "@bot-bottle-sidecars/"; !strings.HasPrefix(got, want) ||
		namespace != "mnt:["+strings.TrimPrefix(got, want)+"]" {
		t.Errorf("%s in %s", got, namespace)
	}
}
