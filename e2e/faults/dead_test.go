//go:build e2e && linux

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestDeadBundle brings up bundles that do not stay up. Each has to fail with what is left
// of the container, which the engine has removed by then, and leave nothing.
func TestDeadBundle(t *testing.T) {
	s := tests.shared
	lines := func(from, to int) []string {
		var all []string
		for i := from; i <= to; i++ {
			all = append(all, fmt.Sprintf("    line %d", i))
		}
		return all
	}
	for _, test := range []struct {
		name     string
		flags    []string
		message  string
		log      []string
		keepsLog bool // whatever the log is, it does not matter
	}{
		{
			name:    "at once",
			flags:   []string{"-e", "STATUS=7", "-e", "LINES=30"},
			message: "exited with status 7",
			log:     lines(11, 30),
		},
		{
			name:    "at once, well",
			flags:   []string{"-e", "STATUS=0", "-e", "LINES=1"},
			message: "exited with status 0",
			log:     lines(1, 1),
		},
		{
			name:    "--log-lines",
			flags:   []string{"-e", "STATUS=7", "-e", "LINES=30", "--log-lines", "3"},
			message: "exited with status 7",
			log:     lines(28, 30),
		},
		{
			name:    "--log-lines 0",
			flags:   []string{"-e", "STATUS=7", "-e", "LINES=30", "--log-lines", "0"},
			message: "exited with status 7",
		},
		{
			name:    "later, --wait",
			flags:   []string{"--wait", "-e", "DELAY=1s", "-e", "STATUS=7", "-e", "LINES=2"},
			message: "exited with status 7",
			log:     lines(1, 2),
		},
		{
			name:     "out of memory",
			flags:    []string{"--wait", "--wait-timeout", "20s", "-e", "MODE=eat", "--memory", "16m"},
			message:  "killed for running out of memory",
			keepsLog: true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, slug := t.Context(), tests.slug()
			o := s.plugin(t, upArgs(s, slug, append([]string{"-e", "MODE=exit"}, test.flags...)...)...)
			if err := o.check(); err != nil {
				t.Errorf("%v: %s", err, o)
			}
			first, _, _ := strings.Cut(o.stderr, "\n")
			if o.status != 1 || !strings.Contains(first, test.message) || !strings.Contains(first, slug) {
				t.Error(o)
			}
			var log []string
			for line := range strings.Lines(o.stderr) {
				if strings.HasPrefix(line, "    ") {
					log = append(log, strings.TrimSuffix(line, "\n"))
				}
			}
			if !test.keepsLog && strings.Join(log, "\n") != strings.Join(test.log, "\n") {
				t.Errorf("the log is\n%s\nwant\n%s", strings.Join(log, "\n"), strings.Join(test.log, "\n"))
			}
			if err := s.checkGone(ctx, slug); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDeadBundleUnwatched brings up bundles that die, while one of the requests that would
// tell of it fails: that must not pass for success.
func TestDeadBundleUnwatched(t *testing.T) {
	s := tests.shared
	type unwatched struct {
		shot
		flags string
	}
	var all []unwatched
	for _, flags := range []string{"-e STATUS=7", "--wait -e DELAY=500ms -e STATUS=7"} {
		for _, request := range []string{"POST /containers/*/wait", "POST /containers/*/attach", "GET /events"} {
			for _, kind := range kinds {
				all = append(all, unwatched{shot{point{request, 1}, kind}, flags})
			}
		}
	}
	well := each(t, all, func(ctx context.Context, u unwatched) error {
		slug := tests.slug()
		proxy := newProxy(t, s.dial, fault{at: u.at, kind: u.kind})
		args := upArgs(s, slug, append([]string{"-e", "MODE=exit"}, strings.Fields(u.flags)...)...)
		o := s.start(t, proxy.host, args...).wait()
		if err := o.check(); err != nil {
			return fmt.Errorf("%w: %s", err, o)
		}
		if !proxy.hasStruck() || o.status != 1 || !strings.Contains(o.stderr, "exited with status 7") {
			return fmt.Errorf("%s: %s", u.flags, o)
		}
		return s.checkGone(ctx, slug)
	})
	t.Logf("%d faults at a dying bundle, %d seen as dead", len(all), well)
}

// TestHealth waits for bundles with a health check.
func TestHealth(t *testing.T) {
	s := tests.shared
	for _, test := range []struct {
		name    string
		flags   []string
		message string // "" where it becomes healthy
		check   string
	}{
		{name: "healthy", flags: []string{"-e", "HEALTH=good", "-e", "HEALTHY_AFTER=150ms"}},
		{name: "unhealthy", flags: []string{"-e", "HEALTH=bad"}, message: "is unhealthy", check: "the spleen is out of order"},
		{name: "--wait-timeout", flags: []string{"-e", "HEALTH=bad", "--wait-timeout", "50ms"}, message: "is not healthy after 50ms"},
		{name: "dies", flags: []string{"-e", "HEALTH=good", "-e", "HEALTHY_AFTER=1h", "-e", "MODE=exit", "-e", "DELAY=150ms", "-e", "STATUS=7"}, message: "exited with status 7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, slug := t.Context(), tests.slug()
			args := append([]string{"up", "--progress", "quiet", "--format", "json", "--wait", "--image", s.checked, "--pool", pool}, test.flags...)
			o := s.plugin(t, append(args, slug)...)
			if err := o.check(); err != nil {
				t.Errorf("%v: %s", err, o)
			}
			if test.message == "" {
				var up struct{ Health string }
				if err := json.Unmarshal([]byte(o.stdout), &up); err != nil || o.status != 0 || up.Health != "healthy" {
					t.Errorf("%v: %s", err, o)
				}
				if err := s.checkUp(ctx, slug); err != nil {
					t.Error(err)
				}
				if err := s.removes(ctx, t, slug); err != nil {
					t.Error(err)
				}
				return
			}
			if o.status != 1 || !strings.Contains(o.stderr, test.message) || !strings.Contains(o.stderr, test.check) {
				t.Error(o)
			}
			if err := s.checkGone(ctx, slug); err != nil {
				t.Error(err)
			}
		})
	}
}
