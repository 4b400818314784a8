package egress

import (
	"fmt"
	"net/http"
)

// refusal is why a request was not served: the answer to the guest and the
// reason code for the audit line. It is an error so that it can travel through
// code that only knows errors.
type refusal struct {
	status int
	reason reason
	text   string
	// host is what the guest asked for, where that much was readable.
	host string
	// serverName is the ClientHello's, where that is what was wrong.
	serverName string
}

func (r *refusal) Error() string { return r.text }

// refuse makes a refusal; the text is one sentence without a final stop.
func refuse(status int, code reason, format string, args ...any) *refusal {
	return &refusal{status: status, reason: code, text: fmt.Sprintf(format, args...)}
}

// failed tells a refusal by policy from a failure further on.
func (r *refusal) decision() decision {
	switch r.reason {
	case reasonDNS, reasonDial, reasonTimeout, reasonUpstream, reasonResponse, reasonClient:
		return decisionError
	}
	return decisionDeny
}

// decision is the outcome in an audit line.
type decision string

const (
	decisionAllow decision = "allow"
	decisionDeny  decision = "deny"
	decisionError decision = "error"
)

// reason stands in an audit line's rule field when no rule let the request
// through, and labels a metric; it is one of the constants below.
type reason string

// Reasons of a denial.
const (
	reasonMalformed    reason = "malformed-request"
	reasonFraming      reason = "ambiguous-framing"
	reasonTooLarge     reason = "header-too-large"
	reasonSlowHeader   reason = "header-timeout"
	reasonMethod       reason = "method"
	reasonNotProxy     reason = "not-a-proxy-request"
	reasonScheme       reason = "scheme"
	reasonHost         reason = "invalid-host"
	reasonHostMismatch reason = "host-mismatch"
	reasonExpect       reason = "expectation"
	reasonNotServed    reason = "not-served"
	reasonNoRule       reason = "no-rule"
	reasonAddress      reason = "address"
	reasonNotTLS       reason = "not-tls"
	reasonBadHello     reason = "malformed-client-hello"
	reasonServerName   reason = "server-name"
	reasonECH          reason = "encrypted-client-hello"
	reasonConnections  reason = "connection-limit"
	reasonRevoked      reason = "rule-removed"
	reasonAudit        reason = "audit-unavailable"
)

// Reasons of a failure after the request was allowed.
const (
	reasonDNS      reason = "dns"
	reasonDial     reason = "connect"
	reasonTimeout  reason = "timeout"
	reasonUpstream reason = "upstream"
	reasonResponse reason = "response"
	reasonClient   reason = "request-body"
)

// write answers a request with the refusal.
func (r *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(r.status)
	fmt.Fprintf(w, "egress: %s\n", r.text)
}
