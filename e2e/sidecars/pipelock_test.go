//go:build e2e && unix

package sidecars

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPipelock builds the example with the stand-in, in both orders, and asks for an allowed
// and for a denied host by way of it.
func TestPipelock(t *testing.T) {
	t.Run("in-front", func(t *testing.T) {
		testPipelock(t, order{
			ready: []string{"egress", "pipelock"}, guestPort: "8888", innerPort: "3128",
			// What egress denies has passed pipelock.
			passed: []string{
				"CONNECT api.example.com:443 to 127.0.0.1:3128", "CONNECT evil.example.net:443 to 127.0.0.1:3128",
				"GET http://api.example.com/ to 127.0.0.1:3128", "GET http://evil.example.net/ to 127.0.0.1:3128",
			},
			client: "127.0.0.1",
		})
	})
	t.Run("behind", func(t *testing.T) {
		testPipelock(t, order{
			ready: []string{"pipelock", "egress"}, guestPort: "3128", innerPort: "8888",
			passed: []string{"CONNECT api.example.com:443 directly", "GET http://api.example.com/ directly"},
		})
	})
}

type order struct {
	ready     []string // daemons, in the order in which they become ready
	guestPort string
	innerPort string
	passed    []string // what the stand-in has passed on, sorted
	client    string   // whom egress serves; empty for the guest
}

func testPipelock(t *testing.T, o order) {
	t.Parallel()
	w := newWorld(t)
	_, target, _ := strings.Cut(t.Name(), "/")
	image := tests.image(target)
	build := func(base string) string {
		return w.docker("bottle", "build", "--quiet", "--tag", image, "--target", target,
			"--build-arg", "BASE="+base, "--build-arg", "PIPELOCK="+tests.images.pipelock, "../../examples/pipelock")
	}
	id := build(tests.images.bundle)
	// As it is when it is built again with the default tag, which is the default base.
	if again := build(image); again != id {
		t.Errorf("built again from itself: %s, the first was %s", again, id)
	}
	checkLikeBase(w, image)

	server := w.serve("server", []string{"api.example.com", "evil.example.net"}, "80", "443")
	w.up(image, "-e", "EGRESS_ALLOW=api.example.com,"+server+"/32")
	options := w.onBottle()
	if want := "HTTPS_PROXY=http://" + w.address(w.bundle(), "bot-bottle-bundle-"+w.slug) + ":" + o.guestPort; !slices.Contains(options, want) {
		t.Errorf("the guest's environment %q lacks %s", options, want)
	}
	answers := w.guest(options, "get", "http://api.example.com/", "https://api.example.com/", "http://evil.example.net/", "https://evil.example.net/")
	for _, want := range []string{
		`http://api\.example\.com/: 200 via ".*": this is api\.example\.com`,
		`https://api\.example\.com/: 200 via "": this is api\.example\.com`,
		`http://evil\.example\.net/: 403 via ".*": egress: evil\.example\.net:80 is not on this bottle's allowlist.*`,
		`https://evil\.example\.net/: error: Get "https://evil\.example\.net/": Forbidden`,
	} {
		if !regexp.MustCompile("(?m)^" + want + "$").MatchString(answers) {
			t.Errorf("the guest got no %s:\n%s", want, answers)
		}
	}

	log := w.bundleLog()
	var ready, passed []string
	for _, match := range regexp.MustCompile(`(?m)^supervisor \| (\S+) ready after`).FindAllStringSubmatch(log, -1) {
		ready = append(ready, match[1])
	}
	for _, match := range regexp.MustCompile(`(?m)^pipelock \| passed (.*)$`).FindAllStringSubmatch(log, -1) {
		passed = append(passed, match[1])
	}
	slices.Sort(passed)
	if diff := cmp.Diff(o.ready, ready); diff != "" {
		t.Errorf("ready in order (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(o.passed, passed); diff != "" {
		t.Errorf("pipelock passed on (-want +got):\n%s", diff)
	}
	var records []string
	for _, r := range w.audit(4) {
		records = append(records, strings.Join([]string{r.Decision, r.Rule, r.Kind, r.Host}, " "))
		if o.client != "" && !strings.HasPrefix(r.Client, o.client+":") {
			t.Errorf("egress served %s, want only %s", r.Client, o.client)
		}
	}
	slices.Sort(records)
	want := []string{
		"allow api.example.com connect api.example.com", "allow api.example.com http api.example.com",
		"deny no-rule connect evil.example.net", "deny no-rule http evil.example.net",
	}
	if diff := cmp.Diff(want, records); diff != "" {
		t.Errorf("audited (-want +got):\n%s", diff)
	}
	if log := w.log("server"); strings.Count(log, "request ") != 2 || strings.Contains(log, "evil") {
		t.Errorf("the server was asked otherwise than twice:\n%s", log)
	}

	// The other daemon is not for guests.
	inner := w.address(w.bundle(), "bot-bottle-bundle-"+w.slug) + ":" + o.innerPort
	if got := w.guest(options, "dial", inner); !strings.HasSuffix(got, "connection refused") {
		t.Errorf("a guest gets past the first daemon: %s", got)
	}
}

// checkLikeBase compares what the example's image repeats of its base.
func checkLikeBase(w *world, image string) {
	w.t.Helper()
	type config struct {
		User        string
		Entrypoint  []string
		Healthcheck any
	}
	read := func(image string) (c config) {
		if err := json.Unmarshal([]byte(w.docker("image", "inspect", "--format", "{{json .Config}}", image)), &c); err != nil {
			w.t.Fatal(err)
		}
		return c
	}
	if diff := cmp.Diff(read(tests.images.bundle), read(image)); diff != "" {
		w.t.Errorf("unlike the base (-base +example):\n%s", diff)
	}
}
