//go:build e2e && unix

package sidecars

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestGuest has a guest on an internal network, where the bundle is the only other container.
// An allowed host works, nothing else does, and each attempt is in the audit log.
func TestGuest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	inside := w.network("inside", "--internal")
	server := w.serve("server", []string{"api.example.com"}, "80", "443")
	trap := w.serve("trap", trapNames, trapPorts...)
	w.up(tests.images.bundle, "-e", "EGRESS_ALLOW="+escapeRules(server))
	w.docker("network", "connect", inside, w.bundle())
	bundle := w.address(w.bundle(), inside)
	proxy := bundle + ":3128"
	onInside := []string{"--network", inside}

	t.Run("reaches the bundle only", func(t *testing.T) {
		// The same from outside shows that the addresses are right.
		direct := []string{server + ":80", server + ":443", trap + ":80", trap + ":443", trap + ":9999"}
		if got := w.guest([]string{"--network", w.outside}, append([]string{"dial"}, direct...)...); strings.Count(got, ": connected") != len(direct) {
			t.Fatalf("from outside:\n%s", got)
		}
		elsewhere := append(direct, "api.example.com:80", w.address(w.bundle(), w.outside)+":3128",
			w.address(w.bundle(), "bot-bottle-bundle-"+w.slug)+":3128", "192.0.2.1:443", "169.254.169.254:80")
		if got := w.guest(onInside, append([]string{"dial"}, elsewhere...)...); strings.Contains(got, ": connected") {
			t.Errorf("a guest reaches more than its bundle:\n%s", got)
		}
		if got := w.guest(onInside, "dial", proxy); got != proxy+": connected" {
			t.Errorf("a guest does not reach its bundle: %s", got)
		}
		t.Logf("%d addresses not reached by the guest, %d of which are from outside", len(elsewhere), len(direct))
	})

	allowed := 0
	t.Run("allowed host", func(t *testing.T) {
		urls := []string{"http://api.example.com/", "https://api.example.com/", "http://" + server + "/"}
		options := append(onInside, "-e", "HTTP_PROXY=http://"+proxy, "-e", "HTTPS_PROXY=http://"+proxy)
		got := w.guest(options, append([]string{"get"}, urls...)...)
		want := `http://api.example.com/: 200 via "": this is api.example.com
https://api.example.com/: 200 via "": this is api.example.com
http://` + server + `/: 200 via "": this is ` + server
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		allowed = len(urls)
	})
	trapped := w.log("trap")

	table := escapes(t, server, trap, bundle)
	outcomes := w.attempt(onInside, proxy, table)
	audited := 0
	t.Run("escapes", func(t *testing.T) {
		if len(table) < 60 {
			t.Errorf("only %d attempts", len(table))
		}
		expected := allowed + len(table)
		for _, e := range table {
			expected += e.before
		}
		records := w.audit(expected)
		if len(records) != expected {
			t.Errorf("%d audit lines, want %d", len(records), expected)
		}
		for i, e := range table {
			t.Run(e.name, func(t *testing.T) {
				o := outcomes[i]
				if o.Problem != "" || o.Then > 0 || !slices.Equal(o.Statuses, e.want) {
					t.Errorf("got %+v, want the responses %d", o, e.want)
				}
				var rules []string
				for _, r := range records {
					if r.Client == o.Local {
						rules = append(rules, r.Decision+" "+r.Rule)
					}
				}
				want := append(slices.Repeat([]string{"allow api.example.com"}, e.before), "deny "+e.rule)
				if diff := cmp.Diff(want, rules); diff != "" {
					t.Errorf("audited (-want +got):\n%s", diff)
					return
				}
				audited++
			})
		}
	})
	if got := w.log("trap"); got != trapped {
		t.Errorf("the trap was reached:\n%s", strings.TrimPrefix(got, trapped))
	}
	requests := allowed
	for _, e := range table {
		requests += e.before
	}
	if got := strings.Count(w.log("server"), "request "); got != requests {
		t.Errorf("the server got %d requests, want %d:\n%s", got, requests, w.log("server"))
	}
	t.Logf("%d requests allowed, %d attempts to escape, %d of them refused and audited with the right rule", allowed, len(table), audited)
}

// outcome is what came of an attempt, as the peer tells.
type outcome struct {
	Local    string
	Statuses []int
	Then     int
	Problem  string
}

// attempt has a guest make all attempts, one after the other.
func (w *world) attempt(options []string, proxy string, table []escape) []outcome {
	w.t.Helper()
	type attempt struct {
		Send      []byte
		Responses int
		Then      []byte
	}
	attempts := make([]attempt, len(table))
	for i, e := range table {
		attempts[i] = attempt{[]byte(e.send), len(e.want), []byte(e.then)}
	}
	input, err := json.Marshal(attempts)
	if err != nil {
		w.t.Fatal(err)
	}
	args := append(append([]string{"run", "--rm", "--interactive"}, options...), tests.images.peer, "attempt", proxy)
	cmd := exec.Command("docker", args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	var outcomes []outcome
	if err := json.Unmarshal(out, &outcomes); err != nil || len(outcomes) != len(table) {
		w.t.Fatalf("%d outcomes of %d attempts, error %v", len(outcomes), len(table), err)
	}
	return outcomes
}
