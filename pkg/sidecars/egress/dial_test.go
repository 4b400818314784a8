package egress

import (
	"fmt"
	"io"
	"net/http"
	"testing"
)

// TestTriesEveryPermittedAddress: one address is refused by the rules, one does
// not answer, the third does.
func TestTriesEveryPermittedAddress(t *testing.T) {
	world := newInternet(t)
	world.name("api.example.com", "10.0.0.1", "8.8.4.1", "8.8.4.2")
	world.servers[mustAddrPort("8.8.4.1:80")] = "refused"
	world.serve("8.8.4.2:80", server(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "third") }))
	b := run(t, world, "EGRESS_ALLOW=api.example.com")
	response, err := b.through(t).Get("http://api.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	lookups, dials := world.seen()
	if string(body) != "third" || len(lookups) != 1 || fmt.Sprint(dials) != "[8.8.4.1:80 8.8.4.2:80]" {
		t.Errorf("%q after lookups %v and dials %v", body, lookups, dials)
	}
	if line := b.audit.wait(t, 1)[0]; line.Address != "8.8.4.2" {
		t.Errorf("audit line %+v", line)
	}
}

// TestRangeRules: the addresses that a range rule names can be reached, by
// address and by an allowed name.
func TestRangeRules(t *testing.T) {
	world := newInternet(t)
	page := server(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })
	for _, address := range []string{"10.1.2.3:80", "10.1.2.3:8080", "169.254.169.254:80", "[fd00::5]:80", "[64:ff9b::808:808]:80", "8.8.8.8:80"} {
		world.serve(address, page)
	}
	world.name("db.internal.example", "10.1.2.3")
	world.name("six.internal.example", "fd00::5")
	world.name("translated.internal.example", "64:ff9b::808:808")
	b := run(t, world, "EGRESS_ALLOW=10.1.0.0/16,10.1.0.0/16:8080,169.254.169.254,fd00::/8,64:ff9b::/96,8.8.8.0/24,*.internal.example,db.internal.example:8080")
	for _, authority := range []string{
		"10.1.2.3", "10.1.2.3:8080", "169.254.169.254", "[fd00::5]", "[64:ff9b::808:808]", "8.8.8.8",
		"db.internal.example", "db.internal.example:8080", "six.internal.example", "translated.internal.example",
	} {
		response, err := b.through(t).Get("http://" + authority + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusOK || string(body) != authority {
			t.Errorf("%s: %s %q", authority, response.Status, body)
		}
	}
}

// TestRealLookup: a name of one label is found in the hosts file.
func TestRealLookup(t *testing.T) {
	found, err := lookup(t.Context(), "localhost")
	if err != nil || len(found) == 0 || !found[0].Unmap().IsLoopback() {
		t.Errorf("localhost: %v, %v", found, err)
	}
}
