//go:build e2e && unix

package sidecars

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEnv gives what docker bottle env prints to those who are to read it: a shell, docker
// run, a file of variables, a JSON parser. All of them have to understand the same.
func TestEnv(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := w.serve("server", []string{"api.example.com"}, "80", "443")
	w.up(tests.images.bundle, "-e", "EGRESS_ALLOW=api.example.com,"+server+"/32")
	published := w.docker("bottle", "port", w.slug, "3128")
	host, _, _ := strings.Cut(published, ":")
	proxy, noProxy := "http://"+published, "localhost,127.0.0.1,::1"
	want := map[string]string{
		"HTTP_PROXY": proxy, "http_proxy": proxy, "HTTPS_PROXY": proxy, "https_proxy": proxy,
		"NO_PROXY": noProxy, "no_proxy": noProxy,
	}
	if host != "127.0.0.1" {
		t.Fatalf("published at %s", published)
	}
	env := func(format string) string { return w.docker("bottle", "env", "--format", format, w.slug) }

	t.Run("shell", func(t *testing.T) {
		got := shell(t, `eval "$(docker bottle env "$1")" && env`, w.slug)
		if diff := cmp.Diff(want, only(want, variables(got))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		// What the shell has found is a proxy, and this bottle's.
		proxy, err := url.Parse(variables(got)["HTTP_PROXY"])
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}
		for address, want := range map[string]string{"http://api.example.com/": "200 this is api.example.com", "http://evil.example.net/": "403 egress: "} {
			response, err := client.Get(address)
			if err != nil {
				t.Error(err)
				continue
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if got := response.Status[:4] + string(body); err != nil || !strings.HasPrefix(got, want) {
				t.Errorf("%s: error %v, %s, want %s", address, err, got, want)
			}
		}
	})
	t.Run("dotenv", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "env")
		if err := os.WriteFile(file, []byte(env("dotenv")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		container := w.slug + "-dotenv"
		w.docker("create", "--name", container, "--env-file", file, tests.images.peer)
		defer w.docker("rm", container)
		w.checkContainer(t, container, want)
	})
	t.Run("docker", func(t *testing.T) {
		container := w.slug + "-docker"
		defer w.docker("rm", "--force", container)
		shell(t, `docker create --name "$2" $(docker bottle env --format docker "$1") "$3"`, w.slug, container, tests.images.peer)
		w.checkContainer(t, container, want)
	})
	t.Run("docker, internal", func(t *testing.T) {
		got := shell(t, `docker run --rm $(docker bottle env --internal --format docker "$1") --network "bot-bottle-bundle-$1" "$2" get http://api.example.com/ https://api.example.com/ http://evil.example.net/`,
			w.slug, tests.images.peer)
		for _, want := range []string{
			`http://api.example.com/: 200 via "": this is api.example.com`, `https://api.example.com/: 200 via "": this is api.example.com`,
			`http://evil.example.net/: 403 via "": egress: `,
		} {
			if !strings.Contains(got, want) {
				t.Errorf("the guest got no %s:\n%s", want, got)
			}
		}
	})
	t.Run("json", func(t *testing.T) {
		var got map[string]string
		if err := json.Unmarshal([]byte(env("json")), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("smolfile", func(t *testing.T) {
		var entries []string
		for _, name := range slices.Sorted(maps.Keys(want)) {
			entries = append(entries, `    "`+name+"="+want[name]+`",`)
		}
		got := strings.Split(env("smolfile"), "\n")
		if len(got) != len(entries)+5 {
			t.Fatalf("got %d lines:\n%s", len(got), strings.Join(got, "\n"))
		}
		slices.Sort(got[1 : len(entries)+1])
		wantLines := append(append([]string{"env = ["}, entries...), "]", "", "[network]", `allow_cidrs = ["127.0.0.1/32"]`)
		if diff := cmp.Diff(wantLines, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// shell runs a script with arguments and returns what it prints.
func shell(t *testing.T, script string, args ...string) string {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-euc", script, "sh"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// checkContainer compares the variables of a container with those wanted.
func (w *world) checkContainer(t *testing.T, container string, want map[string]string) {
	t.Helper()
	got := variables(w.docker("inspect", "--format", `{{range .Config.Env}}{{println .}}{{end}}`, container))
	if diff := cmp.Diff(want, only(want, got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// variables reads lines of the form NAME=VALUE.
func variables(text string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			found[name] = value
		}
	}
	return found
}

// only returns those of the variables found whose names are wanted.
func only(wanted, found map[string]string) map[string]string {
	maps.DeleteFunc(found, func(name, _ string) bool { _, ok := wanted[name]; return !ok })
	return found
}
