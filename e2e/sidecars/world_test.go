//go:build e2e && unix

package sidecars

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// world is a bottle and what is around it. Its objects are removed when the test ends.
type world struct {
	t       *testing.T
	slug    string
	outside string // the network that servers are on
}

// newWorld makes the network outside.
func newWorld(t *testing.T) *world {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(strings.TrimPrefix(t.Name(), "Test")))
	w := &world{t: t, slug: "dbpl-" + tests.run + "-" + name}
	w.outside = w.network("outside")
	return w
}

// network creates a network, with options of docker network create.
func (w *world) network(name string, options ...string) string {
	w.t.Helper()
	name = w.slug + "-" + name
	w.docker(append(append([]string{"network", "create"}, options...), name)...)
	w.t.Cleanup(func() { w.docker("network", "rm", name) })
	return name
}

// serve starts a server outside, which has all the aliases, and returns its address.
func (w *world) serve(name string, aliases []string, ports ...string) string {
	w.t.Helper()
	args := []string{"--network", w.outside}
	for _, alias := range aliases {
		args = append(args, "--network-alias", alias)
	}
	w.start(name, args, append([]string{"serve"}, ports...)...)
	w.eventually("the server "+name+" listens", func() bool { return strings.Contains(w.log(name), "serving\n") })
	return w.address(w.slug+"-"+name, w.outside)
}

// start starts a peer in the background.
func (w *world) start(name string, options []string, words ...string) {
	w.t.Helper()
	container := w.slug + "-" + name
	args := append([]string{"run", "--detach", "--name", container}, options...)
	w.t.Cleanup(func() { w.docker("rm", "--force", container) })
	w.docker(append(append(args, tests.images.peer), words...)...)
}

// guest runs a peer, with options of docker run, and returns what it prints.
func (w *world) guest(options []string, words ...string) string {
	w.t.Helper()
	return w.docker(append(append(append([]string{"run", "--rm"}, options...), tests.images.peer), words...)...)
}

// up brings the bottle up, which takes the time returned, and connects the bundle with the
// network outside.
func (w *world) up(image string, options ...string) time.Duration {
	w.t.Helper()
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("log of the bundle:\n%s", w.bundleLog())
		}
		w.docker("bottle", "down", "--quiet", w.slug)
	})
	args := append([]string{"bottle", "up", "--quiet", "--wait", "--pool", pool, "--image", image}, isolation...)
	begin := time.Now()
	w.docker(append(append(args, options...), w.slug)...)
	took := time.Since(begin)
	w.docker("network", "connect", w.outside, w.bundle())
	return took
}

// isolation is what the default image gets by itself.
var isolation = []string{"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}

func (w *world) bundle() string { return "bot-bottle-sidecars-" + w.slug }

// onBottle are the options of docker run for a guest on the bottle's network, whose
// environment is that of docker bottle env.
func (w *world) onBottle() []string {
	w.t.Helper()
	env := w.docker("bottle", "env", "--internal", "--format", "docker", w.slug)
	return append(strings.Fields(env), "--network", "bot-bottle-bundle-"+w.slug)
}

// address returns the address of a container in a network.
func (w *world) address(container, network string) string {
	w.t.Helper()
	return w.docker("inspect", "--format", fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", network), container)
}

func (w *world) docker(args ...string) string {
	w.t.Helper()
	out, err := output(nil, "docker", args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// log returns what a peer has logged.
func (w *world) log(name string) string {
	w.t.Helper()
	return w.containerLog(w.slug + "-" + name)
}

func (w *world) bundleLog() string {
	w.t.Helper()
	return w.containerLog(w.bundle())
}

func (w *world) containerLog(container string) string {
	w.t.Helper()
	out, err := exec.Command("docker", "logs", container).CombinedOutput()
	if err != nil {
		w.t.Fatalf("docker logs %s: %v\n%s", container, err, out)
	}
	return string(out)
}

// auditLine is what egress records of a request.
type auditLine struct {
	Decision, Rule, Kind, Host, Client string
	Port                               int
}

// audit returns egress' records, once there are as many as expected.
func (w *world) audit(atLeast int) []auditLine {
	w.t.Helper()
	var records []auditLine
	w.eventually(fmt.Sprintf("%d audit lines", atLeast), func() bool {
		records = nil
		for text := range strings.Lines(w.bundleLog()) {
			text, found := strings.CutPrefix(text, "egress | {")
			if !found {
				continue
			}
			var record auditLine
			if err := json.Unmarshal([]byte("{"+text), &record); err != nil {
				w.t.Fatalf("audit line %q: %v", text, err)
			}
			records = append(records, record)
		}
		return len(records) >= atLeast
	})
	return records
}

// eventually waits for something that must happen.
func (w *world) eventually(what string, condition func() bool) {
	w.t.Helper()
	timeout := time.After(time.Minute)
	for !condition() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-timeout:
			w.t.Fatalf("%s: not so", what)
		}
	}
}
