//go:build e2e && linux

package sidecars_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/bot-bottle/docker-bottle/pkg/sidecars"
	"github.com/bot-bottle/docker-bottle/pkg/sidecars/supervisor"
)

// TestBundle runs the default bundle on the engine that docker reaches, which has
// to be on this machine and to let the test signal the containers' processes. It
// works on images and containers of its own and leaves nothing.
func TestBundle(t *testing.T) {
	context, err := sidecars.BuildContext(docker(t, "info", "--format", "{{.Architecture}}"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, context); err != nil {
		t.Fatal(err)
	}
	image, other := unique(), unique()
	buildkitBuild(t, dir, image)
	classicBuild(t, dir, other)
	derived := unique()
	classicBuild(t, compileHello(t, image), derived)

	t.Run("image of BuildKit", func(t *testing.T) { testImage(t, image) })
	t.Run("image of the classic builder", func(t *testing.T) { testImage(t, other) })
	t.Run("strict", func(t *testing.T) { testStrict(t, image) })
	t.Run("kill", func(t *testing.T) { testKill(t, image) })
	t.Run("hung daemon", func(t *testing.T) { testHung(t, image) })
	t.Run("gives up", func(t *testing.T) { testGivesUp(t, image) })
	t.Run("unknown daemon", func(t *testing.T) { testUnknown(t, image) })
	t.Run("refused configuration", func(t *testing.T) { testRefused(t, image) })
	t.Run("commands", func(t *testing.T) { testCommands(t, image) })
	t.Run("SIGHUP", func(t *testing.T) { testHangup(t, derived) })
	t.Run("derived", func(t *testing.T) { testDerived(t, derived) })
	t.Run("derived and sick", func(t *testing.T) { testDerivedSick(t, derived) })
	t.Run("stubborn daemon", func(t *testing.T) { testStubborn(t, derived) })
	t.Run("JSON log", func(t *testing.T) { testJSON(t, derived) })
	t.Run("orphans", func(t *testing.T) { testOrphans(t, derived) })
	t.Run("shared network namespace", func(t *testing.T) { testSharedNetwork(t, derived) })
	t.Run("below another init", func(t *testing.T) { testInit(t, derived) })
}

func testImage(t *testing.T, image string) {
	var got struct {
		Size   int64
		Config struct {
			User         string
			Entrypoint   []string
			ExposedPorts map[string]struct{}
			Labels       map[string]string
			Healthcheck  struct {
				Test              []string
				Interval, Timeout time.Duration
				Retries           int
			}
		}
	}
	if err := json.Unmarshal([]byte(docker(t, "image", "inspect", "--format", "{{json .}}", image)), &got); err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f MB", float64(got.Size)/1e6)
	if got.Size >= 15e6 {
		t.Errorf("the image has %d bytes", got.Size)
	}
	want := got
	want.Config.User = "65532:65532"
	want.Config.Entrypoint = []string{"/bottle-sidecars"}
	want.Config.ExposedPorts = map[string]struct{}{"3128/tcp": {}}
	want.Config.Labels = map[string]string{
		"org.opencontainers.image.title":        "bot-bottle sidecars",
		"org.opencontainers.image.description":  "Sidecar bundle of a bottle: supervisor and egress proxy",
		"org.opencontainers.image.licenses":     "Apache-2.0",
		sidecars.LabelDaemons:                   "egress",
		sidecars.LabelPorts:                     "3128/tcp",
		sidecars.LabelReadyLog:                  supervisor.ReadyText,
		sidecars.LabelEnvPrefix + "HTTPS_PROXY": "3128/tcp",
		sidecars.LabelEnvPrefix + "HTTP_PROXY":  "3128/tcp",
	}
	want.Config.Healthcheck.Test = []string{"CMD", "/bottle-sidecars", "health"}
	want.Config.Healthcheck.Interval = 900 * time.Millisecond
	want.Config.Healthcheck.Timeout = 5 * time.Second
	want.Config.Healthcheck.Retries = 3
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// strict are the options under which the bundle is meant to run.
var strict = []string{"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}

func testStrict(t *testing.T, image string) {
	c := runBundle(t, image, strict...)
	c.awaitHealth("healthy")
	t.Logf("healthy %v after the start", c.time("{{json (index .State.Health.Log 0).End}}").Sub(c.started).Round(time.Millisecond))
	for _, command := range []string{"/bottle-sidecars", "bottle-sidecars daemon egress"} {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid(command)))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"Uid:\t65532\t65532\t65532\t65532", "Gid:\t65532\t65532\t65532\t65532",
			"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1",
		} {
			if !strings.Contains(string(status), want) {
				t.Errorf("%s: no %q", command, want)
			}
		}
	}
	begin := time.Now()
	docker(t, "stop", c.name)
	t.Logf("stopped in %v", time.Since(begin).Round(time.Millisecond))
	if status := c.exited(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	c.awaitLog(1, `supervisor \| received SIGTERM`)
	c.awaitLog(1, `supervisor \| egress stopped`)
}

// testKill kills egress until it stays away long enough for the engine to notice.
func testKill(t *testing.T, image string) {
	c := runBundle(t, image, append(strict, "--health-interval", "100ms", "--health-retries", "1")...)
	c.awaitHealth("healthy")
	for i, delay := range []string{"200ms", "400ms", "800ms", "1.6s"} {
		n := strconv.Itoa(i + 1)
		c.awaitLog(i+1, `supervisor \| egress ready after .*`)
		if err := unix.Kill(c.pid("daemon egress"), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		c.awaitLog(1, `supervisor \| egress was killed by SIGKILL; restart `+n+` of 5 in `+delay)
	}
	c.awaitHealth("unhealthy")
	c.awaitHealth("healthy")
	c.awaitLog(5, `supervisor \| egress ready after .*`)
	if got := c.inspect("{{.State.Status}} {{.RestartCount}}"); got != "running 0" {
		t.Errorf("the container is %s", got)
	}
}

// testHung stops egress without ending it.
func testHung(t *testing.T, image string) {
	c := runBundle(t, image, append(strict, "--health-retries", "1")...)
	c.awaitHealth("healthy")
	pid := c.pid("daemon egress")
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c.awaitHealth("unhealthy")
	last := "{{range .State.Health.Log}}{{.Output}}{{end}}"
	if got := c.inspect(last); !strings.Contains(got, "egress does not answer") {
		t.Errorf("health check says %q", got)
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.awaitHealth("healthy")
	if c.pid("daemon egress") != pid {
		t.Errorf("egress was started again")
	}
}

func testGivesUp(t *testing.T, image string) {
	// Nothing can listen there: the address is not the container's.
	c := runBundle(t, image, append(strict, "--env", "EGRESS_LISTEN=192.0.2.1:3128")...)
	if status := c.exited(); status != 5 {
		t.Errorf("exit status %d", status)
	}
	c.awaitLog(1, `supervisor \| gave up on egress: 6 failures within 1m0s, the last: it exited with status 1`)
}

func testUnknown(t *testing.T, image string) {
	c := runBundle(t, image, append(strict, "--env", "BOT_BOTTLE_SIDECAR_DAEMONS=egress,pipelock")...)
	if status := c.exited(); status != 4 {
		t.Errorf("exit status %d", status)
	}
	const want = `supervisor | BOT_BOTTLE_SIDECAR_DAEMONS names an unknown daemon: "pipelock"; this image has: egress`
	if got := c.log(); got != want {
		t.Errorf("log\n%s\nwant\n%s", got, want)
	}
}

func testRefused(t *testing.T, image string) {
	for _, test := range []struct{ env, log string }{
		{"EGRESS_ALLOW=http://", `egress \| egress refuses its configuration: .*EGRESS_ALLOW.*`},
		{"BOT_BOTTLE_SIDECAR_DAEMONS=", `supervisor \| BOT_BOTTLE_SIDECAR_DAEMONS names no daemon`},
		{"BOT_BOTTLE_LOG=xml", `supervisor \| BOT_BOTTLE_LOG is neither "text" nor "json"`},
	} {
		c := runBundle(t, image, append(strict, "--env", test.env)...)
		if status := c.exited(); status != 3 {
			t.Errorf("%s: exit status %d", test.env, status)
		}
		c.awaitLog(1, test.log)
	}
}

func testCommands(t *testing.T, image string) {
	for _, test := range []struct {
		args   []string
		status int
		out    string
	}{
		{[]string{"version"}, 0, "bottle-sidecars "},
		{[]string{"health"}, 1, "the supervisor does not answer"},
		{[]string{"daemon", "nobody"}, 4, `no built-in daemon is called "nobody"`},
		{[]string{"daemon"}, 2, "usage: bottle-sidecars"},
		{[]string{"--help"}, 2, "usage: bottle-sidecars"},
	} {
		cmd := exec.Command("docker", append([]string{"run", "--rm", "--name", unique(), image}, test.args...)...)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != test.status || !strings.Contains(string(out), test.out) {
			t.Errorf("%q: exit status %d\n%s", test.args, cmd.ProcessState.ExitCode(), out)
		}
	}
}

func withHello(args ...string) []string {
	return append(append([]string{"--env", "BOT_BOTTLE_SIDECAR_DAEMONS=hello,egress"}, strict...), args...)
}

func testHangup(t *testing.T, image string) {
	c := runBundle(t, image, withHello()...)
	c.awaitHealth("healthy")
	docker(t, "kill", "--signal", "HUP", c.name)
	c.awaitLog(1, `supervisor \| received SIGHUP`)
	c.awaitLog(1, `hello \| got hangup`)
	docker(t, "stop", c.name)
	if status := c.exited(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if strings.Contains(c.log(), "restart") {
		t.Errorf("a daemon died of it")
	}
}

func testDerived(t *testing.T, image string) {
	c := runBundle(t, image, withHello("--env", "TOKEN=s3cret")...)
	c.awaitHealth("healthy")
	c.awaitLog(1, `supervisor \| hello started, pid \d+`)
	c.awaitLog(1, `supervisor \| egress started, pid \d+`)
	c.awaitLog(1, `hello \| binary \\x1b\[2J\\x00\\xff`)
	c.awaitLog(1, `hello \| {"hello":"world"}`)
	var long strings.Builder
	for line := range strings.Lines(c.log()) {
		if text, ok := strings.CutPrefix(line, "hello | "); ok && strings.Contains(text, "long") || strings.HasPrefix(text, "ong ") {
			long.WriteString(strings.TrimSuffix(text, "\n"))
		}
		if len(line) > 16<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	if want := strings.Repeat("long ", 10_000); long.String() != want {
		t.Errorf("the long line came out with %d bytes, not %d", long.Len(), len(want))
	}
	docker(t, "stop", c.name)
	c.awaitLog(1, `hello \| got terminated`)
	if strings.Contains(c.log(), "s3cret") {
		t.Errorf("the log has the value of an environment variable")
	}
}

func testDerivedSick(t *testing.T, image string) {
	c := runBundle(t, image, withHello("--health-retries", "1", "--env", "HELLO_SICK=the backend is away")...)
	c.awaitHealth("unhealthy")
	last := "{{range .State.Health.Log}}{{.Output}}{{end}}"
	const want = "hello /daemons/hello.health exited with status 1: the backend is away"
	if got := c.inspect(last); !strings.Contains(got, want) {
		t.Errorf("health check says %q", got)
	}
	c.awaitLog(1, `supervisor \| hello is not ready after 3s`)
	c.awaitLog(1, `supervisor \| egress ready after .*`)
}

// testStubborn stops the container with the engine's own timeout of 10 s, which
// must be enough for the supervisor to do the killing.
func testStubborn(t *testing.T, image string) {
	c := runBundle(t, image, withHello("--env", "HELLO_STUBBORN=yes")...)
	c.awaitHealth("healthy")
	docker(t, "stop", c.name)
	if status := c.exited(); status != 6 {
		t.Errorf("exit status %d", status)
	}
	c.awaitLog(1, `supervisor \| hello did not stop within 8s, killed`)
	c.awaitLog(1, `supervisor \| egress stopped`)
}

func testJSON(t *testing.T, image string) {
	c := runBundle(t, image, withHello("--env", "BOT_BOTTLE_LOG=json")...)
	c.awaitHealth("healthy")
	docker(t, "stop", c.name)
	daemons := map[string]int{}
	world := false
	for line := range strings.Lines(c.log()) {
		var record struct {
			Time   time.Time
			Daemon string
			Event  struct{ Hello string }
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if record.Time.IsZero() {
			t.Errorf("no time: %s", line)
		}
		daemons[record.Daemon]++
		world = world || record.Event.Hello == "world"
	}
	if daemons["supervisor"] == 0 || daemons["hello"] == 0 || !world {
		t.Errorf("lines of %v, with the event: %t", daemons, world)
	}
}

func testOrphans(t *testing.T, image string) {
	c := runBundle(t, image, withHello()...)
	c.awaitLog(1, `hello \| orphan adopted by 1`)
	c.awaitHealth("healthy")
	eventually(t, "only PID 1 and the daemons are left", func() bool {
		return len(c.pids("")) == 3
	})
}

// testSharedNetwork runs two bundles in one network namespace, where abstract
// sockets are shared.
func testSharedNetwork(t *testing.T, image string) {
	first := runBundle(t, image, withHello()...)
	second := runBundle(t, image, append(strict,
		"--network", "container:"+first.name, "--env", "BOT_BOTTLE_SIDECAR_DAEMONS=hello", "--env", "HELLO_SICK=yes",
		"--health-retries", "1")...)
	first.awaitHealth("healthy")
	second.awaitHealth("unhealthy")
	first.awaitHealth("healthy")
}

func testInit(t *testing.T, image string) {
	c := runBundle(t, image, withHello("--init")...)
	c.awaitLog(1, `hello \| orphan adopted by [^1].*`)
	c.awaitHealth("healthy")
	docker(t, "stop", c.name)
	if status := c.exited(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
