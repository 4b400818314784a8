package egress

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// auditLine is the record of one request, tunnel or refused connection. It has
// no field that could hold a header, a path, a query or a credential.
type auditLine struct {
	Time     time.Time `json:"time"` // of the end, UTC
	Decision decision  `json:"decision"`
	// Rule is the allowlist entry that matched, or the reason code.
	Rule    string `json:"rule"`
	Kind    string `json:"kind"`
	Host    string `json:"host"`
	Port    uint16 `json:"port"`
	Address string `json:"address"` // what the host resolved to and was dialled
	// Up counts bytes from guest to target, Down those back: a tunnel's
	// payload, a request's and response's body.
	Up         int64   `json:"bytes_up"`
	Down       int64   `json:"bytes_down"`
	DurationMS float64 `json:"duration_ms"`
	Client     string  `json:"client"`
	// ServerName is the ClientHello's, only where it was the reason.
	ServerName string `json:"server_name,omitempty"`
}

// Values of auditLine.Kind.
const (
	kindConnect = "connect"
	kindHTTP    = "http"
	kindUnknown = "unknown" // the request did not get as far as a method
)

// auditLog writes one line per record, each in a single Write. A slow writer
// makes its callers wait: no record is dropped.
type auditLog struct {
	mu     sync.Mutex
	w      io.Writer
	failed bool
}

// write returns the writer's error.
func (l *auditLog) write(line auditLine) error {
	line.Time = line.Time.UTC()
	line.Host = clip(line.Host, maxNameLength)
	line.ServerName = clip(line.ServerName, maxNameLength)
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.w.Write(text)
	l.failed = err != nil
	return err
}

// broken reports that the last record could not be written. Until one can,
// nothing more is let through.
func (l *auditLog) broken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}
