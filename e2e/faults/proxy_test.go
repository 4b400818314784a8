//go:build e2e && linux

package faults

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A point is one request of a command: its method, its path without version, names and
// IDs, and its number among the requests that look alike. Requests that are made at the
// same time arrive in any order, so points are told apart by this and not by their order.
type point struct {
	request string // "POST /containers/*/start"
	nth     int    // from 1
}

func (p point) String() string {
	if p.nth == 1 {
		return p.request
	}
	return fmt.Sprintf("%s (%d)", p.request, p.nth)
}

// changes reports whether the request is one that may change something.
func (p point) changes() bool {
	return !strings.HasPrefix(p.request, http.MethodGet) && !strings.HasPrefix(p.request, http.MethodHead)
}

// handshake reports whether the request belongs to the connection, not to the command.
func (p point) handshake() bool { return strings.HasSuffix(p.request, " /_ping") }

// kind says what becomes of a request.
type kind string

const (
	pass      kind = "pass"       // nothing
	refuse    kind = "500"        // it is answered with status 500 and has no effect
	cutBefore kind = "cut before" // the connection ends, it has no effect
	cutAfter  kind = "cut after"  // it has its effect, then the connection ends
	delay     kind = "delay"      // it is held up
)

// heldUp is how long a delayed request is held up.
const heldUp = 300 * time.Millisecond

// A fault is what a proxy does to one request.
type fault struct {
	at   point
	kind kind
	// before is called when the request has arrived, after when it has had its effect and
	// before it is answered. Either may be nil.
	before, after func()
}

// proxy stands between one process and the engine, on a Unix socket of its own.
type proxy struct {
	host    string // for DOCKER_HOST
	fault   fault
	engine  *http.Transport
	forward *httputil.ReverseProxy

	mu     sync.Mutex
	seen   []point
	counts map[string]int
	struck bool
}

// newProxy starts a proxy that ends with the test. Each process gets one, so that runs at
// the same time do not mix.
func newProxy(t testing.TB, dial func(context.Context) (net.Conn, error), f fault) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "flt-") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{host: "unix://" + socket, fault: f, counts: map[string]int{}}
	p.engine = &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression: true,
	}
	p.forward = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "docker"}) },
		Transport:     p.engine,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // cut connections are what it is for
		ModifyResponse: func(response *http.Response) error {
			if marked(response.Request.Context()) && p.fault.after != nil {
				p.fault.after()
			}
			return nil
		},
		// An engine that went away answers nothing.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := &http.Server{Handler: p}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // until Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
		p.engine.CloseIdleConnections()
		_ = os.RemoveAll(dir)
	})
	return p
}

type markKey struct{}

func marked(ctx context.Context) bool { return ctx.Value(markKey{}) != nil }

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.arrive(r) {
		p.forward.ServeHTTP(w, r)
		return
	}
	if p.fault.before != nil {
		p.fault.before()
	}
	switch p.fault.kind {
	case refuse:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintln(w, `{"message":"the disk is on fire"}`)
	case cutBefore:
		panic(http.ErrAbortHandler)
	case cutAfter:
		p.effect(r)
		if p.fault.after != nil {
			p.fault.after()
		}
		panic(http.ErrAbortHandler)
	case delay:
		time.Sleep(heldUp)
		p.forward.ServeHTTP(w, r)
	default:
		p.forward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), markKey{}, true)))
	}
}

// arrive takes a request down and reports whether it is the one to strike.
func (p *proxy) arrive(r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	request := shape(r)
	p.counts[request]++
	at := point{request, p.counts[request]}
	p.seen = append(p.seen, at)
	hit := at == p.fault.at
	p.struck = p.struck || hit
	return hit
}

func (p *proxy) points() []point {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]point(nil), p.seen...)
}

func (p *proxy) hasStruck() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.struck
}

// effect lets the engine do what is asked for, and keeps its answer back. A request whose
// answer goes on for as long as something lives has had its effect when the answer begins.
func (p *proxy) effect(r *http.Request) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(r.Context()), 20*time.Second)
	defer stop()
	out := r.Clone(ctx)
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = "http", "docker"
	response, err := p.engine.RoundTrip(out)
	if err != nil {
		return
	}
	defer response.Body.Close()
	endless := strings.HasSuffix(r.URL.Path, "/wait") || strings.HasSuffix(r.URL.Path, "/events")
	if response.StatusCode == http.StatusSwitchingProtocols || endless {
		return
	}
	_, _ = io.Copy(io.Discard, response.Body)
}

var (
	versionPrefix = regexp.MustCompile(`^/v1\.[0-9]+/`)
	objectName    = regexp.MustCompile(`^/(containers|networks|images)/(.+)$`)
)

// shape returns a request's method and path without what differs from run to run.
func shape(r *http.Request) string {
	path := versionPrefix.ReplaceAllString(r.URL.Path, "/")
	if match := objectName.FindStringSubmatch(path); match != nil && match[2] != "json" && match[2] != "create" {
		path = "/" + match[1] + "/*"
		if _, verb, found := cutLast(match[2], "/"); found && match[1] != "networks" || found && verb == "disconnect" {
			path += "/" + verb
		}
	}
	return r.Method + " " + path
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}
