package egress

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// allowFile writes an allowlist the way an editor does: beside it, then over it.
func allowFile(t testing.TB, path string, entries ...string) {
	t.Helper()
	next := path + ".new"
	if err := os.WriteFile(next, []byte(strings.Join(entries, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

func status(t testing.TB, b *bottle, url string) int {
	t.Helper()
	c := b.dial(t)
	defer c.Close()
	c.send(get(url, "Connection: close"))
	response, _ := c.response(http.MethodGet)
	return response.StatusCode
}

func TestReload(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	world.name("new.example.com", publicAPI)
	path := filepath.Join(t.TempDir(), "allow")
	allowFile(t, path, "# first", "api.example.com # comment", "")
	b := run(t, world, "EGRESS_ALLOW_FILE="+path)
	const api, fresh = "http://api.example.com/", "http://new.example.com/"
	if status(t, b, api) != 200 || status(t, b, fresh) != 403 {
		t.Fatal("the first allowlist is not in force")
	}

	allowFile(t, path, "new.example.com")
	if status(t, b, fresh) != 403 {
		t.Error("the second allowlist is in force before a reload")
	}
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status(t, b, api) != 403 || status(t, b, fresh) != 200 {
		t.Error("the second allowlist is not in force")
	}

	allowFile(t, path, "api.example.com", "http://bad.example.com/")
	err := b.Reload(t.Context())
	if err == nil || !strings.Contains(err.Error(), path+":2") || !strings.Contains(err.Error(), "scheme") {
		t.Errorf("a bad file gives %v", err)
	}
	if status(t, b, api) != 403 || status(t, b, fresh) != 200 {
		t.Error("the second allowlist is not in force after a bad one")
	}
	os.Remove(path)
	if b.Reload(t.Context()) == nil || status(t, b, fresh) != 200 {
		t.Error("the second allowlist is not in force without a file")
	}
	text := string(b.metrics.text())
	for _, want := range []string{"egress_reloads_total 1\n", "egress_reload_failures_total 2\n", "egress_allowlist_entries 1\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %q", want)
		}
	}
}

// TestReloadOnChange: every way in which a mounted file changes.
func TestReloadOnChange(t *testing.T) {
	world := web(t, func(w http.ResponseWriter, r *http.Request) {})
	dir := t.TempDir()
	path := filepath.Join(dir, "allow")
	allowFile(t, path, "a.example.com")
	b := runConfig(t, world, func(cfg *Config) { cfg.pollInterval = 5 * time.Millisecond }, "EGRESS_ALLOW_FILE="+path)
	allowed := func(name string) func() bool {
		return func() bool {
			_, ok := b.policy.Load().rules.name(name, 80)
			return ok
		}
	}
	allowFile(t, path, "b.example.com")
	eventually(t, "a file renamed over", allowed("b.example.com"))

	if err := os.WriteFile(path, []byte("cc.example.com"), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a file rewritten in place", allowed("cc.example.com"))

	for i, name := range []string{"d.example.com", "e.example.com"} {
		version := filepath.Join(dir, fmt.Sprint("version", i))
		allowFile(t, version, name)
		os.Remove(path + ".link")
		if err := os.Symlink(version, path+".link"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".link", path); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a symlink switched", allowed(name))
	}

	allowFile(t, path, "*")
	eventually(t, "a report of a bad file", func() bool { return strings.Contains(b.log.String(), "allow everything") })
	if !allowed("e.example.com")() {
		t.Error("a bad file was taken up")
	}
	os.Remove(path)
	eventually(t, "a report of a missing file", func() bool { return strings.Contains(b.log.String(), "no such file") })
	allowFile(t, path, "f.example.com")
	eventually(t, "a file that came back", allowed("f.example.com"))
}

// TestReloadEndsWhatIsNoLongerAllowed, and nothing else.
func TestReloadEndsWhatIsNoLongerAllowed(t *testing.T) {
	world := newInternet(t)
	for i, name := range []string{"stays.example", "goes.example", "inside.example"} {
		address := fmt.Sprintf("8.8.4.%d", i+1)
		if name == "inside.example" {
			address = "10.0.0.1"
		}
		world.name(name, address)
		world.serve(address+":8443", echo(t, "hi"))
	}
	entered := make(chan struct{})
	world.serve("8.8.4.2:80", server(t, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}))
	path := filepath.Join(t.TempDir(), "allow")
	allowFile(t, path, "*.example:8443", "goes.example", "stays.example:8443", "inside.example:8443", "10.0.0.0/8:8443", "goes.example:8443")
	b := run(t, world, "EGRESS_ALLOW_FILE="+path)
	tunnels := map[string]*client{}
	greeting := make([]byte, 2)
	for _, name := range []string{"stays.example", "goes.example", "inside.example"} {
		tunnels[name] = b.connect(t, name+":8443")
		if _, err := io.ReadFull(tunnels[name], greeting); err != nil {
			t.Fatal(err)
		}
	}
	pending := b.dial(t)
	pending.send(get("http://goes.example/"))
	<-entered

	allowFile(t, path, "stays.example:8443", "inside.example:8443")
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	tunnels["goes.example"].ended()
	tunnels["inside.example"].ended() // its name is allowed still, its address is not
	if response, body := pending.response(http.MethodGet); response.StatusCode != 403 || !strings.Contains(body, "gone") {
		t.Errorf("%s %q", response.Status, body)
	}
	tunnels["stays.example"].send("ho")
	if _, err := io.ReadFull(tunnels["stays.example"], greeting); err != nil || string(greeting) != "ho" {
		t.Errorf("the tunnel that stays: %q, %v", greeting, err)
	}
	for _, line := range b.audit.wait(t, 3) {
		if line.Decision != decisionDeny || line.Rule != string(reasonRevoked) {
			t.Errorf("audit line %+v", line)
		}
	}
}

// TestReloadForgetsKeptConnections: a request under new rules does not travel on
// a connection made under the old ones.
func TestReloadForgetsKeptConnections(t *testing.T) {
	world := newInternet(t)
	world.name("api.example.com", "10.0.0.1")
	world.serve("10.0.0.1:80", server(t, func(w http.ResponseWriter, r *http.Request) {}))
	path := filepath.Join(t.TempDir(), "allow")
	allowFile(t, path, "api.example.com", "10.0.0.0/8")
	b := run(t, world, "EGRESS_ALLOW_FILE="+path)
	if got := status(t, b, "http://api.example.com/"); got != 200 {
		t.Fatal(got)
	}
	allowFile(t, path, "api.example.com")
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := status(t, b, "http://api.example.com/"); got != 403 {
		t.Errorf("%d from a private address after its range rule has gone", got)
	}
}
