package egress

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
)

// helloFor returns the first flight of a TLS client.
func helloFor(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		defer near.Close()
		tls.Client(near, cfg).Handshake()
	}()
	header := make([]byte, 5)
	if _, err := io.ReadFull(far, header); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(header[3])<<8|int(header[4]))
	if _, err := io.ReadFull(far, body); err != nil {
		t.Fatal(err)
	}
	return append(header, body...)
}

// hello is the first flight of a client that asks for name, "" for none.
func hello(t testing.TB, name string) string {
	return string(helloFor(t, &tls.Config{ServerName: name, InsecureSkipVerify: true}))
}
