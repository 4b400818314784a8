//go:build e2e && linux

package faults

import (
	"slices"
	"testing"
)

// mostRequests is how many requests an up may make that finds nothing to do.
const mostRequests = 3

// TestRequestsOfUnchangedUp counts what up asks of the engine when the bundle runs as
// asked for.
func TestRequestsOfUnchangedUp(t *testing.T) {
	s, slug := tests.shared, tests.slug()
	isUp(t, s, slug)
	before, err := s.objects(t.Context(), slug)
	if err != nil {
		t.Fatal(err)
	}
	proxy := newProxy(t, s.dial, fault{})
	if o := s.start(t, proxy.host, upArgs(s, slug)...).wait(); o.status != 0 {
		t.Fatal(o)
	}
	after, err := s.objects(t.Context(), slug)
	if err != nil {
		t.Fatal(err)
	}
	if before.String() != after.String() {
		t.Errorf("there was %s, there is %s", before, after)
	}
	requests := slices.DeleteFunc(proxy.points(), point.handshake)
	if len(requests) == 0 || len(requests) > mostRequests {
		t.Errorf("it made %d requests, at most %d are allowed", len(requests), mostRequests)
	}
	t.Logf("an unchanged up: %d requests after the handshake: %v", len(requests), requests)
	if err := s.removes(t.Context(), t, slug); err != nil {
		t.Error(err)
	}
}
