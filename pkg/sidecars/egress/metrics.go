package egress

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// metrics are the proxy's counts in the Prometheus text format, version 0.0.4.
// No label carries anything that a guest can choose.
type metrics struct {
	connections     atomic.Int64 // accepted, total
	open            atomic.Int64
	tunnels         atomic.Int64 // open
	up, down        atomic.Int64
	lookups         atomic.Int64
	rules           atomic.Int64
	reloads         atomic.Int64
	reloadFailures  atomic.Int64
	auditFailures   atomic.Int64
	maxConnections  int
	mu              sync.Mutex
	outcomes        map[outcome]int64
	connectSeconds  float64
	connectAttempts int64
}

// outcome is a combination of labels of egress_requests_total.
type outcome struct {
	kind     string
	decision decision
	reason   reason // empty for what was allowed
}

func newMetrics(maxConnections int) *metrics {
	return &metrics{outcomes: map[outcome]int64{}, maxConnections: maxConnections}
}

func (m *metrics) count(o outcome) {
	m.mu.Lock()
	m.outcomes[o]++
	m.mu.Unlock()
}

// connected records the time from a decision to a connection, lookup included.
func (m *metrics) connected(seconds float64) {
	m.mu.Lock()
	m.connectSeconds += seconds
	m.connectAttempts++
	m.mu.Unlock()
}

// ServeHTTP answers a scrape.
func (m *metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(m.text())
}

func (m *metrics) text() []byte {
	var b bytes.Buffer
	family := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	single := func(name, kind, help string, value int64) {
		family(name, kind, help)
		fmt.Fprintf(&b, "%s %d\n", name, value)
	}
	single("egress_connections_total", "counter", "Client connections accepted.", m.connections.Load())
	single("egress_connections_open", "gauge", "Client connections open now.", m.open.Load())
	single("egress_connections_limit", "gauge", "Client connections possible at once.", int64(m.maxConnections))
	single("egress_tunnels_open", "gauge", "CONNECT tunnels open now.", m.tunnels.Load())
	family("egress_bytes_total", "counter", "Tunnel payload and HTTP body bytes, by direction seen from the guest.")
	fmt.Fprintf(&b, "egress_bytes_total{direction=\"up\"} %d\n", m.up.Load())
	fmt.Fprintf(&b, "egress_bytes_total{direction=\"down\"} %d\n", m.down.Load())
	single("egress_lookups_total", "counter", "Names resolved.", m.lookups.Load())

	m.mu.Lock()
	lines := make([]string, 0, len(m.outcomes))
	for o, n := range m.outcomes {
		lines = append(lines, fmt.Sprintf("egress_requests_total{kind=%q,decision=%q,reason=%q} %d\n", o.kind, o.decision, o.reason, n))
	}
	seconds, attempts := m.connectSeconds, m.connectAttempts
	m.mu.Unlock()
	slices.Sort(lines)
	family("egress_requests_total", "counter", "Requests, tunnels and refused connections that have ended.")
	b.WriteString(strings.Join(lines, ""))
	family("egress_connect_duration_seconds", "summary", "Time to resolve a target and connect to it.")
	fmt.Fprintf(&b, "egress_connect_duration_seconds_sum %g\n", seconds)
	fmt.Fprintf(&b, "egress_connect_duration_seconds_count %d\n", attempts)

	single("egress_allowlist_entries", "gauge", "Allowlist entries in force.", m.rules.Load())
	single("egress_reloads_total", "counter", "Allowlist reloads that took effect.", m.reloads.Load())
	single("egress_reload_failures_total", "counter", "Allowlist reloads that were refused.", m.reloadFailures.Load())
	single("egress_audit_failures_total", "counter", "Audit lines that could not be written.", m.auditFailures.Load())
	return b.Bytes()
}
