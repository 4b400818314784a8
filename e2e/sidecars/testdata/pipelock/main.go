// Command pipelock stands in for pipelock where a bundle's wiring is tested: a forward proxy
// with the part of pipelock's command line that the example uses. It says what it passes on,
// and adds a Via field to what it answers.
//
//	pipelock run --config FILE --listen ADDRESS
//	pipelock healthcheck
//
// Unlike the real one it looks at nothing that it passes on, and it sends requests by way of
// the proxy that its environment names, if there is one.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const via = "1.1 pipelock"

func main() {
	log.SetFlags(0)
	log.SetOutput(os.Stdout)
	if len(os.Args) < 2 {
		log.Fatal("usage: pipelock run --config FILE --listen ADDRESS | pipelock healthcheck")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	config := flags.String("config", "", "configuration `file`")
	listen := flags.String("listen", "127.0.0.1:8888", "`address` to listen on")
	_ = flags.Parse(os.Args[2:]) // exits with an error
	var err error
	switch os.Args[1] {
	case "run":
		err = run(*config, *listen)
	case "healthcheck":
		err = healthcheck(*listen)
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
}

// run refuses a configuration under which the real one would be no proxy.
func run(config, listen string) error {
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), "forward_proxy:\n  enabled: true\n") {
		return fmt.Errorf("%s: the forward proxy is not enabled", config)
	}
	server := &http.Server{Addr: listen, Handler: http.HandlerFunc(serve), ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

func healthcheck(address string) error {
	client := &http.Client{Timeout: 3 * time.Second}
	response, err := client.Get("http://" + address + "/health")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", response.Status)
	}
	return nil
}

func serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Via", via)
	switch {
	case r.Method == http.MethodConnect:
		tunnel(w, r)
	case r.URL.IsAbs():
		forward(w, r)
	case r.URL.Path == "/health":
	default:
		http.Error(w, "pipelock: this is a forward proxy", http.StatusBadRequest)
	}
}

func forward(w http.ResponseWriter, r *http.Request) {
	passed(r, r.URL.String(), r.URL)
	r.RequestURI = ""
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		http.Error(w, "pipelock: "+err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body) // the client may be gone
}

func tunnel(w http.ResponseWriter, r *http.Request) {
	proxy := passed(r, r.Host, &url.URL{Scheme: "https", Host: r.Host})
	target, status, err := connect(r.Host, proxy)
	if err != nil {
		http.Error(w, "pipelock: "+err.Error(), status)
		return
	}
	defer target.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer client.Close()
	if _, err := fmt.Fprintf(client, "HTTP/1.1 200 OK\r\nVia: %s\r\n\r\n", via); err != nil {
		return
	}
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(target, buffered)
		_ = target.(*net.TCPConn).CloseWrite()
		close(ended)
	}()
	_, _ = io.Copy(client, target)
	_ = client.(*net.TCPConn).CloseWrite()
	<-ended
}

// connect opens a connection to a target, or to a proxy, which is then asked for it. With an
// error it returns the status to answer with.
func connect(target string, proxy *url.URL) (net.Conn, int, error) {
	first := target
	if proxy != nil {
		first = proxy.Host
	}
	conn, err := net.DialTimeout("tcp", first, 10*time.Second)
	if err != nil || proxy == nil {
		return conn, http.StatusBadGateway, err
	}
	if _, err = fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", target); err == nil {
		var response *http.Response
		response, err = http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
		if err == nil && response.StatusCode != http.StatusOK {
			conn.Close()
			return nil, response.StatusCode, fmt.Errorf("%s answered %s", first, response.Status)
		}
	}
	if err != nil {
		conn.Close()
	}
	return conn, http.StatusBadGateway, err
}

// passed logs a request and the proxy that it goes by way of, which it returns.
func passed(r *http.Request, target string, goal *url.URL) *url.URL {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: goal})
	switch {
	case err != nil:
		log.Fatal(err)
	case proxy != nil:
		log.Printf("passed %s %s to %s", r.Method, target, proxy.Host)
	default:
		log.Printf("passed %s %s directly", r.Method, target)
	}
	return proxy
}
