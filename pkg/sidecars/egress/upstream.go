package egress

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// maxUpstreamHeader bounds the upstream proxy's answer to CONNECT, in bytes.
const maxUpstreamHeader = 16 << 10

// dialUpstream connects to the upstream proxy. Its address is the operator's
// word and is not checked against the rules.
func (p *Proxy) dialUpstream(ctx context.Context) (*net.TCPConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.cfg.Upstream.Host)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// reachThroughUpstream asks the upstream proxy for a tunnel to t. early is what
// the target sent together with the upstream's answer. The error is a *refusal;
// the upstream's own words are not passed on.
func (p *Proxy) reachThroughUpstream(ctx context.Context, t target) (conn *net.TCPConn, early []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.ConnectTimeout)
	defer cancel()
	conn, err = p.dialUpstream(ctx)
	if err != nil {
		return nil, nil, upstreamFailed(ctx, fmt.Sprintf("cannot be reached: %v", rootCause(err)))
	}
	// A context that ends interrupts the exchange below.
	interrupt := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	early, err = p.askUpstream(conn, t)
	if !interrupt() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, upstreamFailed(ctx, err.Error())
	}
	return conn, early, nil
}

func (p *Proxy) askUpstream(conn *net.TCPConn, t target) (early []byte, err error) {
	request := "CONNECT " + t.String() + " HTTP/1.1\r\nHost: " + t.String() + "\r\n"
	if user := p.cfg.Upstream.User; user != nil {
		password, _ := user.Password()
		request += "Proxy-Authorization: Basic " +
			base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return nil, fmt.Errorf("broke off: %w", rootCause(err))
	}
	limited := &io.LimitedReader{R: conn, N: maxUpstreamHeader}
	reader := bufio.NewReader(limited)
	response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, fmt.Errorf("gave no answer that could be understood")
	}
	if response.StatusCode/100 != 2 {
		return nil, fmt.Errorf("answered %d", response.StatusCode)
	}
	early, _ = reader.Peek(reader.Buffered())
	return append([]byte(nil), early...), nil
}

func upstreamFailed(ctx context.Context, what string) *refusal {
	if ctx.Err() != nil {
		return refuse(http.StatusGatewayTimeout, reasonTimeout, "the upstream proxy did not answer in time (EGRESS_CONNECT_TIMEOUT)")
	}
	return refuse(http.StatusBadGateway, reasonUpstream, "the upstream proxy %s (EGRESS_UPSTREAM)", what)
}
