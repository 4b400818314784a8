package supervisor

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfigFromEnv(t *testing.T) {
	long := strings.Repeat("n", 63)
	for _, test := range []struct {
		name string
		env  map[string]string
		want Config
		err  string
	}{
		{name: "nothing set", want: Config{Daemons: []string{"egress"}}},
		{
			name: "order and spaces",
			env:  map[string]string{EnvDaemons: " pipelock ,\tegress"},
			want: Config{Daemons: []string{"pipelock", "egress"}},
		},
		{
			name: "every kind of character",
			env:  map[string]string{EnvDaemons: "git-gate,a.b_C9," + long},
			want: Config{Daemons: []string{"git-gate", "a.b_C9", long}},
		},
		{
			name: "JSON",
			env:  map[string]string{EnvLog: "json"},
			want: Config{Daemons: []string{"egress"}, Format: JSON},
		},
		{
			name: "text",
			env:  map[string]string{EnvLog: "text"},
			want: Config{Daemons: []string{"egress"}},
		},
		{
			name: "unknown format, whose value is not repeated",
			env:  map[string]string{EnvLog: "s3cret"},
			err:  `BOT_BOTTLE_LOG is neither "text" nor "json"`,
		},
		{
			name: "empty",
			env:  map[string]string{EnvDaemons: ""},
			err:  "BOT_BOTTLE_SIDECAR_DAEMONS names no daemon",
		},
		{
			name: "only spaces",
			env:  map[string]string{EnvDaemons: "  "},
			err:  "BOT_BOTTLE_SIDECAR_DAEMONS names no daemon",
		},
		{
			name: "empty entry in the format asked for",
			env:  map[string]string{EnvDaemons: "egress, ,x", EnvLog: "json"},
			want: Config{Format: JSON},
			err:  "BOT_BOTTLE_SIDECAR_DAEMONS entry 2 is empty",
		},
		{
			name: "trailing comma",
			env:  map[string]string{EnvDaemons: "egress,"},
			err:  "BOT_BOTTLE_SIDECAR_DAEMONS entry 2 is empty",
		},
		{
			name: "twice",
			env:  map[string]string{EnvDaemons: "egress,x, egress"},
			err:  `BOT_BOTTLE_SIDECAR_DAEMONS names "egress" twice`,
		},
		{
			name: "out of the directory",
			env:  map[string]string{EnvDaemons: "../x"},
			err:  `BOT_BOTTLE_SIDECAR_DAEMONS "../x" is no name of a daemon: it must not have '.' at byte 0`,
		},
		{
			name: "slash",
			env:  map[string]string{EnvDaemons: "a/b"},
			err:  `BOT_BOTTLE_SIDECAR_DAEMONS "a/b" is no name of a daemon: it must not have '/' at byte 1`,
		},
		{
			name: "health check",
			env:  map[string]string{EnvDaemons: "x.health"},
			err:  `BOT_BOTTLE_SIDECAR_DAEMONS "x.health" is no name of a daemon: NAME.health is the health check of a daemon`,
		},
		{
			name: "arguments",
			env:  map[string]string{EnvDaemons: "x.args"},
			err:  `BOT_BOTTLE_SIDECAR_DAEMONS "x.args" is no name of a daemon: NAME.args has the arguments of a daemon`,
		},
		{
			name: "variables",
			env:  map[string]string{EnvDaemons: "x.env"},
			err:  `BOT_BOTTLE_SIDECAR_DAEMONS "x.env" is no name of a daemon: NAME.env has the variables of a daemon`,
		},
		{
			name: "the supervisor",
			env:  map[string]string{EnvDaemons: "supervisor"},
			err:  `BOT_BOTTLE_SIDECAR_DAEMONS "supervisor" is no name of a daemon: it is the supervisor's own`,
		},
		{
			name: "too long",
			env:  map[string]string{EnvDaemons: long + "n"},
			err:  `BOT_BOTTLE_SIDECAR_DAEMONS "` + long + `n" is no name of a daemon: it is longer than 63 bytes`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ConfigFromEnv(func(key string) (string, bool) {
				value, ok := test.env[key]
				return value, ok
			})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
			switch {
			case test.err == "":
				if err != nil {
					t.Errorf("error %v", err)
				}
			case err == nil || err.Error() != test.err:
				t.Errorf("error %v, want %s", err, test.err)
			case ExitStatus(err) != ExitConfig:
				t.Errorf("exit status %d, want %d", ExitStatus(err), ExitConfig)
			}
		})
	}
}

func TestUnknownDaemonErrorNamesWhatThereIs(t *testing.T) {
	for _, test := range []struct {
		err  UnknownDaemonError
		want string
	}{
		{
			UnknownDaemonError{Names: []string{"pipelock"}, Known: []string{"egress", "hello"}},
			`BOT_BOTTLE_SIDECAR_DAEMONS names an unknown daemon: "pipelock"; this image has: egress, hello`,
		},
		{
			UnknownDaemonError{Names: []string{"b", "a"}},
			`BOT_BOTTLE_SIDECAR_DAEMONS names unknown daemons: "b", "a"; this image has: none`,
		},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestExitStatusOfAnyOtherError(t *testing.T) {
	if got := ExitStatus(errors.New("disk full")); got != ExitFailure {
		t.Errorf("exit status %d, want %d", got, ExitFailure)
	}
}
