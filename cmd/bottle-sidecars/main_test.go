//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	for _, test := range []struct {
		args           string
		status         int
		stdout, stderr string // beginnings
	}{
		{"version", 0, "bottle-sidecars devel (go1.", ""},
		{"version x", 2, "", "usage: bottle-sidecars [COMMAND]\n"},
		{"health", 1, "the supervisor does not answer: ", ""},
		{"daemon", 2, "", "usage: "},
		{"daemon nobody", 4, "", `no built-in daemon is called "nobody"`},
		{"daemon egress x", 2, "", "usage: "},
		{"supervise", 2, "", "usage: "},
		{"-h", 2, "", "usage: "},
	} {
		var stdout, stderr strings.Builder
		if status := run(strings.Fields(test.args), &stdout, &stderr); status != test.status {
			t.Errorf("%s: exit status %d, want %d", test.args, status, test.status)
		}
		check := func(stream, got, want string) {
			if !strings.HasPrefix(got, want) || want == "" && got != "" {
				t.Errorf("%s: %s is %q, want %q", test.args, stream, got, want)
			}
		}
		check("stdout", stdout.String(), test.stdout)
		check("stderr", stderr.String(), test.stderr)
	}
}

func TestSuperviseRefusesItsEnvironment(t *testing.T) {
	for _, test := range []struct {
		daemons, format string
		status          int
		want            string
	}{
		{"egress,", "", 3, "supervisor | BOT_BOTTLE_SIDECAR_DAEMONS entry 2 is empty\n"},
		{"egress", "xml", 3, "supervisor | BOT_BOTTLE_LOG is neither \"text\" nor \"json\"\n"},
		{"nobody", "", 4, "supervisor | BOT_BOTTLE_SIDECAR_DAEMONS names an unknown daemon: \"nobody\"; this image has: egress\n"},
	} {
		t.Setenv("BOT_BOTTLE_SIDECAR_DAEMONS", test.daemons)
		t.Setenv("BOT_BOTTLE_LOG", test.format)
		var stdout, stderr strings.Builder
		if status := run(nil, &stdout, &stderr); status != test.status {
			t.Errorf("%q %q: exit status %d, want %d", test.daemons, test.format, status, test.status)
		}
		if stdout.String() != test.want || stderr.Len() > 0 {
			t.Errorf("%q %q:\n%s%s\nwant\n%s", test.daemons, test.format, stdout.String(), stderr.String(), test.want)
		}
	}
}
