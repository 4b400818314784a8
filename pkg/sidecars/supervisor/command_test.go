//go:build linux

package supervisor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFilesBesideADaemon(t *testing.T) {
	dir := daemonDir(t, map[string]string{
		"proxy":             "",
		"proxy.args":        "# how it listens\nrun\n\n--listen\r\n0.0.0.0:8888\n \t\n  two words = \"as they are\" # too",
		"proxy.env":         "\n# whom it asks\nHTTPS_PROXY=http://127.0.0.1:3128\r\nNO_PROXY=\nPATTERN=a=b # c \n",
		"proxy.health":      "",
		"proxy.health.args": "healthcheck\n",
		"plain":             "",
		"plain.args":        "# none",
		"other.env":         "EGRESS_LISTEN=127.0.0.1:3128",
	})
	in := func(name string) string { return filepath.Join(dir, name) }
	got, err := findCommands([]string{"proxy", "plain", "other"}, builtins, dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []command{
		{
			name:   "proxy",
			path:   in("proxy"),
			argv:   []string{in("proxy"), "run", "--listen", "0.0.0.0:8888", `  two words = "as they are" # too`},
			health: []string{in("proxy.health"), "healthcheck"},
			env:    []string{"HTTPS_PROXY=http://127.0.0.1:3128", "NO_PROXY=", "PATTERN=a=b # c "},
		},
		{name: "plain", path: in("plain"), argv: []string{in("plain")}},
		{
			name: "other", builtin: true, path: "/proc/self/exe",
			argv: []string{"bottle-sidecars", "daemon", "other"},
			env:  []string{"EGRESS_LISTEN=127.0.0.1:3128"},
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(command{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFilesAreNoDaemons makes them executable, as some checkouts do.
func TestFilesAreNoDaemons(t *testing.T) {
	dir := daemonDir(t, map[string]string{"proxy": "", "proxy.args": "", "proxy.env": ""})
	for _, name := range []string{"proxy.args", "proxy.env"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, err := findCommands([]string{"absent"}, nil, dir)
	want := &UnknownDaemonError{Names: []string{"absent"}, Known: []string{"proxy"}}
	if diff := cmp.Diff(error(want), err); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestMalformedFilesBesideADaemon(t *testing.T) {
	for name, test := range map[string]struct {
		daemon, file, content string
		want                  string // after the path
	}{
		"arguments of a built-in": {"good", "good.args", "x", ": a built-in daemon takes no arguments"},
		"NUL":                     {"proxy", "proxy.args", "run\n\na\x00b", " line 3: it has a NUL byte"},
		"too large":               {"proxy", "proxy.args", strings.Repeat("#\n", 32<<10) + "x", ": it is larger than 65536 bytes"},
		"check's arguments":       {"proxy", "proxy.health.args", "\x00", " line 1: it has a NUL byte"},
		"no value":                {"proxy", "proxy.env", "A=b\ns3cret", " line 2: it is not KEY=VALUE"},
		"no name":                 {"proxy", "proxy.env", "=s3cret", " line 1: the name of a variable is not empty and has no spaces"},
		"space in a name":         {"proxy", "proxy.env", "export A=s3cret", " line 1: the name of a variable is not empty and has no spaces"},
		"twice":                   {"proxy", "proxy.env", "A=1\n\nA=s3cret", " line 3: A is set a second time"},
		"built-in's variables":    {"good", "good.env", "s3cret", " line 1: it is not KEY=VALUE"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := daemonDir(t, map[string]string{"proxy": "", "proxy.health": "", test.file: test.content})
			_, err := findCommands([]string{test.daemon}, builtins, dir)
			checkFileError(t, err, filepath.Join(dir, test.file)+test.want)
		})
	}
	t.Run("largest", func(t *testing.T) {
		dir := daemonDir(t, map[string]string{"proxy": "", "proxy.args": strings.Repeat("#\n", 32<<10)})
		if _, err := findCommands([]string{"proxy"}, nil, dir); err != nil {
			t.Error(err)
		}
	})
	t.Run("directory", func(t *testing.T) {
		dir := daemonDir(t, map[string]string{"proxy": ""})
		path := filepath.Join(dir, "proxy.env")
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := findCommands([]string{"proxy"}, nil, dir)
		checkFileError(t, err, path+": it is not a regular file")
	})
	t.Run("loop", func(t *testing.T) {
		dir := daemonDir(t, map[string]string{"proxy": ""})
		path := filepath.Join(dir, "proxy.args")
		if err := os.Symlink("proxy.args", path); err != nil {
			t.Fatal(err)
		}
		_, err := findCommands([]string{"proxy"}, nil, dir)
		checkFileError(t, err, path+": it cannot be read: too many levels of symbolic links")
	})
}

func checkFileError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want || ExitStatus(err) != ExitConfig {
		t.Errorf("error %v, exit status %d\nwant  %s, exit status %d", err, ExitStatus(err), want, ExitConfig)
	}
}

// TestDaemonGetsItsFiles looks at what reaches the processes.
func TestDaemonGetsItsFiles(t *testing.T) {
	b := prepare(t, Limits{}, "echoes", "steady")
	for name, content := range map[string]string{
		"echoes.args":        "run\n--listen=:8888\n",
		"echoes.env":         "TEST_OWN=from the file\n",
		"echoes.health.args": "check\n",
	} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.cmd.Env = append(b.cmd.Env, "TEST_OWN=from the container")
	b.run()
	b.await(1, `echoes \| \["run" "--listen=:8888"\] "from the file"`)
	want := Status{Daemon: "echoes", Problem: filepath.Join(b.dir, "echoes.health") + ` exited with status 1: ["check"] "from the file"`}
	if diff := cmp.Diff(want, b.health()[0]); diff != "" {
		t.Errorf("health (-want +got):\n%s", diff)
	}
}

func TestMalformedFileStartsNothing(t *testing.T) {
	b := prepare(t, Limits{}, "steady", "echoes")
	path := filepath.Join(b.dir, "echoes.env")
	if err := os.WriteFile(path, []byte("s3cret"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.run()
	b.ends(ExitConfig)
	b.await(1, `supervisor \| `+path+` line 1: it is not KEY=VALUE`)
	if b.count("started") > 0 {
		t.Errorf("something was started")
	}
}

func TestWithEntries(t *testing.T) {
	environ := []string{"A=1", "AB=2", "B=3", "A=4", "odd"}
	got := withEntries(environ, []string{"A=", "C=5"})
	if diff := cmp.Diff([]string{"AB=2", "B=3", "odd", "A=", "C=5"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"A=1", "AB=2", "B=3", "A=4", "odd"}, environ); diff != "" {
		t.Errorf("the argument was changed (-want +got):\n%s", diff)
	}
}

// daemonDir returns a directory of files, of which those without a suffix that
// means something else, and health checks, are executable.
func daemonDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		mode := os.FileMode(0o644)
		if extension := filepath.Ext(name); extension == "" || extension == healthSuffix {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
