//go:build e2e && unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// veil stands between docker and the engine, for what concerns all bottles of an engine:
// those of other people are not for the scripts to touch.
func (s *suite) veil(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0)
	sc := scriptOf(ts)
	dial := s.engine.Dialer()
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		Transport:      &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }},
		ModifyResponse: func(response *http.Response) error { return hideOthers(response, sc.slug) },
		FlushInterval:  -1,
	}
	path := filepath.Join(s.dir, sc.slug+".sock")
	listener, err := net.Listen("unix", path)
	ts.Check(err)
	plain := httptest.NewUnstartedServer(proxy)
	ts.Check(plain.Listener.Close())
	plain.Listener = listener
	plain.Start()
	secure := httptest.NewUnstartedServer(proxy)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that refuse the certificate
	secure.StartTLS()
	ts.Defer(func() {
		for _, server := range []*httptest.Server{plain, secure} {
			server.CloseClientConnections()
			server.Close()
		}
	})
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), certificate, 0o644))
	ts.Setenv("VEILED", "unix://"+path)
	ts.Setenv("VEILED_TLS", "tcp://"+secure.Listener.Addr().String())
}

var listing = regexp.MustCompile(`^(/v[0-9.]+)?/(containers/json|networks)$`)

// hideOthers removes other people's bottles from an engine's lists.
func hideOthers(response *http.Response, slug string) error {
	if response.StatusCode != http.StatusOK || !listing.MatchString(response.Request.URL.Path) {
		return nil
	}
	var objects []map[string]any
	if err := json.NewDecoder(response.Body).Decode(&objects); err != nil {
		return err
	}
	objects = slices.DeleteFunc(objects, func(object map[string]any) bool {
		name, _ := object["Name"].(string)
		if names, ok := object["Names"].([]any); ok {
			name, _ = names[0].(string)
		}
		return strings.Contains(name, "bot-bottle-") && !strings.Contains(name, slug)
	})
	body, err := json.Marshal(objects)
	if err != nil {
		return err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	response.ContentLength = int64(len(body))
	response.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}
