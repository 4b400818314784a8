// Command peer is what a bundle under test has to do with: the server behind it, the guest
// before it, and whoever does harm to it.
//
//	peer serve PORT...     answer HTTP, and HTTPS on port 443, and log what comes
//	peer get URL...        print what the URLs answer, asked through the environment's proxies
//	peer dial ADDRESS...   print which addresses can be connected to
//	peer attempt PROXY     read attempts, a JSON array, and print what came of them likewise
//	peer kill TEXT         kill -9 the process whose command line ends with this text
package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is when something is taken not to come any more.
const patience = 10 * time.Second

func main() {
	log.SetFlags(0)
	log.SetOutput(os.Stdout)
	if len(os.Args) < 3 {
		log.Fatal("usage: peer serve|get|dial|attempt|kill WORD...")
	}
	run := map[string]func([]string) error{
		"serve": serve, "get": get, "dial": dial, "attempt": attempts, "kill": kill,
	}[os.Args[1]]
	if run == nil {
		log.Fatalf("unknown word %q", os.Args[1])
	}
	if err := run(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

func serve(ports []string) error {
	config, err := selfSigned()
	if err != nil {
		return err
	}
	failed := make(chan error)
	for _, port := range ports {
		listener, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		if port == "443" {
			listener = tls.NewListener(logged{listener}, config)
		} else {
			listener = logged{listener}
		}
		server := &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: patience, ErrorLog: log.Default()}
		go func() { failed <- server.Serve(listener) }()
	}
	log.Print("serving")
	return <-failed
}

func answer(w http.ResponseWriter, r *http.Request) {
	log.Printf("request %s %s%s", r.Method, r.Host, r.URL)
	fmt.Fprintf(w, "this is %s", r.Host)
}

// logged tells who connects.
type logged struct{ net.Listener }

func (l logged) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		log.Printf("connection from %s", conn.RemoteAddr())
	}
	return conn, err
}

// selfSigned makes a certificate that nobody is to believe.
func selfSigned() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}

func get(urls []string) error {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // of the server above
	client := &http.Client{Transport: transport, Timeout: patience}
	for _, url := range urls {
		response, err := client.Get(url)
		if err != nil {
			fmt.Printf("%s: error: %v\n", url, err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %d via %q: %s\n", url, response.StatusCode, response.Header.Get("Via"), bytes.TrimSpace(body))
		response.Body.Close()
	}
	return nil
}

func dial(addresses []string) error {
	results := make([]string, len(addresses))
	var wg sync.WaitGroup
	for i, address := range addresses {
		wg.Go(func() {
			// Where packets are dropped, nothing comes to an end by itself.
			conn, err := net.DialTimeout("tcp", address, 3*time.Second)
			if err != nil {
				results[i] = err.Error()
				return
			}
			conn.Close()
			results[i] = "connected"
		})
	}
	wg.Wait()
	for i, address := range addresses {
		fmt.Printf("%s: %s\n", address, results[i])
	}
	return nil
}

// attempt is what to send to a proxy.
type attempt struct {
	Send      []byte
	Responses int    // to wait for
	Then      []byte // to send after them; then the proxy has to close the connection
}

// outcome is what came of it.
type outcome struct {
	Local    string // address that the attempt came from
	Statuses []int  // of the responses
	Then     int    // bytes that came after Then
	Problem  string // what kept it from being made, or from ending as it should
}

func attempts(args []string) error {
	var table []attempt
	if err := json.NewDecoder(os.Stdin).Decode(&table); err != nil {
		return err
	}
	outcomes := make([]outcome, len(table))
	for i, a := range table {
		var err error
		if outcomes[i], err = a.make(args[0]); err != nil {
			outcomes[i].Problem = err.Error()
		}
	}
	return json.NewEncoder(os.Stdout).Encode(outcomes)
}

func (a attempt) make(proxy string) (o outcome, err error) {
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		return o, err
	}
	defer conn.Close()
	o.Local = conn.LocalAddr().String()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return o, err
	}
	// A proxy that has seen enough may answer and close before it has read all.
	_, _ = conn.Write(a.Send)
	method, _, _ := strings.Cut(string(a.Send), " ")
	reader := bufio.NewReader(conn)
	for range a.Responses {
		response, err := http.ReadResponse(reader, &http.Request{Method: method})
		if err != nil {
			return o, err
		}
		o.Statuses = append(o.Statuses, response.StatusCode)
		if method != http.MethodConnect || response.StatusCode != http.StatusOK {
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				return o, err
			}
		}
		method = http.MethodGet
	}
	if len(a.Then) == 0 {
		return o, nil
	}
	_, _ = conn.Write(a.Then)
	rest, err := io.ReadAll(reader)
	o.Then = len(rest)
	if errors.Is(err, syscall.ECONNRESET) {
		err = nil
	}
	return o, err
}

func kill(args []string) error {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, name := range lines {
		line, err := os.ReadFile(name)
		if err != nil {
			continue // gone meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			return err
		}
		words := strings.Join(strings.Split(strings.TrimRight(string(line), "\x00"), "\x00"), " ")
		if pid != os.Getpid() && strings.HasSuffix(words, args[0]) {
			fmt.Println("killed", pid)
			return syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return fmt.Errorf("no process %q", args[0])
}
