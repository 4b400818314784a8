//go:build e2e && unix

package sidecars

import (
	"cmp"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestBundle prints what the default bundle takes, and kills its daemon until the bundle is
// seen not to be healthy. It does not run beside others, for the sake of the time that it prints.
func TestBundle(t *testing.T) {
	w := newWorld(t)
	size, err := strconv.ParseFloat(w.docker("image", "inspect", "--format", "{{.Size}}", tests.images.bundle), 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the image has %.2f MB", size/1e6)
	if size >= 15e6 {
		t.Errorf("the image has %.0f bytes, 15 MB or more", size)
	}
	t.Logf("up --wait took %v", w.up(tests.images.bundle).Round(time.Millisecond))
	if got := w.docker("inspect", "--format", "{{.State.Health.Status}}", w.bundle()); got != "healthy" {
		t.Errorf("after up --wait it is %s", got)
	}
	w.killUntilUnhealthy()
}

// killUntilUnhealthy kills egress, which stays away for longer every time, until a health
// check meets the bundle without it.
func (w *world) killUntilUnhealthy() {
	w.t.Helper()
	const most = 5 // failures after which a daemon is started again
	for kills := 1; ; kills++ {
		if kills > most {
			w.t.Fatalf("no health check of %d failed", most)
		}
		w.guest([]string{"--pid", "container:" + w.bundle()}, "kill", "bottle-sidecars daemon egress")
		w.awaitLog(1, fmt.Sprintf(`supervisor \| egress was killed by SIGKILL; restart %d of %d in .*`, kills, most))
		problem := w.problem()
		w.awaitLog(kills+1, `supervisor \| egress ready after .*`)
		// The check may come too late, and find egress starting or well.
		if problem == "egress was killed by SIGKILL, and is to be started again" {
			if problem := w.problem(); problem != "" {
				w.t.Errorf("with egress started again: %s", problem)
			}
			w.t.Logf("killed %d times, started again %[1]d times; health followed the kill number %[1]d", kills)
			break
		}
	}
	w.eventually("the engine finds it healthy", func() bool {
		return w.docker("inspect", "--format", "{{.State.Status}} {{.State.Health.Status}} {{.RestartCount}}", w.bundle()) == "running healthy 0"
	})
}

// problem makes the bundle's health check, and returns what it finds wrong.
func (w *world) problem() string {
	w.t.Helper()
	out, err := exec.Command("docker", "exec", w.bundle(), "/bottle-sidecars", "health").CombinedOutput()
	if err == nil {
		return ""
	}
	return cmp.Or(strings.TrimSpace(string(out)), err.Error())
}

// awaitLog waits for the nth line of the bundle's log that matches.
func (w *world) awaitLog(nth int, pattern string) {
	w.t.Helper()
	line := regexp.MustCompile("(?m)^" + pattern + "$")
	w.eventually(fmt.Sprintf("line %d of %s", nth, pattern), func() bool {
		return len(line.FindAllString(w.bundleLog(), nth)) == nth
	})
}
