package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Serve listens and serves until ctx is done, then finishes what is open within
// the drain timeout and returns nil. A listener that cannot be opened or fails
// is an error. Serve may be called once.
func (p *Proxy) Serve(ctx context.Context) error {
	var lc net.ListenConfig
	plain, err := lc.Listen(ctx, "tcp", p.cfg.Listen)
	if err != nil {
		return fmt.Errorf("EGRESS_LISTEN: %w", err)
	}
	defer plain.Close()
	scrapes, err := lc.Listen(ctx, "tcp", p.cfg.MetricsListen)
	if err != nil {
		return fmt.Errorf("EGRESS_METRICS_LISTEN: %w", err)
	}
	defer scrapes.Close()
	l := p.newListener(plain.(*net.TCPListener))
	p.mu.Lock()
	p.listener, p.scrapes = l, scrapes
	p.mu.Unlock()
	close(p.ready)

	proxy, monitor := p.proxyServer(), p.monitorServer()
	var group errgroup.Group
	failed, fail := context.WithCancel(ctx)
	run := func(s *http.Server, l net.Listener) {
		group.Go(func() error {
			defer fail()
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	run(proxy, l)
	run(monitor, scrapes)
	var watching sync.WaitGroup
	watching.Go(func() { p.watch(failed) })

	<-failed.Done()
	p.drain(context.WithoutCancel(ctx), proxy)
	monitor.Close()
	watching.Wait()
	p.mu.Lock()
	p.listener = nil
	p.mu.Unlock()
	p.policy.Load().transport.CloseIdleConnections()
	return group.Wait()
}

func (p *Proxy) proxyServer() *http.Server {
	s := &http.Server{
		Handler: http.HandlerFunc(p.serve),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		// The vetting has a limit and a timeout for header blocks; net/http
		// only has to be wider.
		MaxHeaderBytes:               2 * p.cfg.MaxHeaderBytes,
		IdleTimeout:                  p.cfg.IdleTimeout,
		DisableGeneralOptionsHandler: true,
		Protocols:                    new(http.Protocols),
		ErrorLog:                     p.cfg.ErrorLog,
	}
	s.Protocols.SetHTTP1(true)
	return s
}

func (p *Proxy) monitorServer() *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", p.metrics)
	mux.HandleFunc("GET "+probePath, func(w http.ResponseWriter, r *http.Request) {
		if err := p.Check(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      10 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          p.cfg.ErrorLog,
	}
}

// Draining looks at open tunnels this often, and takes one that was quiet for
// this long for a kept connection that nobody waits for.
const (
	drainPoll  = 50 * time.Millisecond
	drainQuiet = time.Second
)

// drain ends all open work: requests and busy tunnels may finish until the drain
// timeout, quiet tunnels are closed.
func (p *Proxy) drain(ctx context.Context, server *http.Server) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.DrainTimeout)
	defer cancel()
	shutdown := make(chan struct{})
	go func() {
		defer close(shutdown)
		_ = server.Shutdown(ctx) // what is left over is closed below
	}()
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	for ctx.Err() == nil {
		left := p.open()
		if len(left) == 0 {
			break
		}
		for _, x := range left {
			if x.kind == kindConnect && x.idleFor() > drainQuiet {
				x.hangUp()
			}
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	// The last responses may still be on their way out. A connection that never
	// said anything is not waited for.
	select {
	case <-shutdown:
	case <-ctx.Done():
	case <-time.After(drainQuiet):
	}
	server.Close()
	for _, x := range p.open() {
		x.hangUp()
	}
	// Their connections are closed, so they end at once and write their lines.
	for last := time.Now().Add(drainQuiet); len(p.open()) > 0 && time.Now().Before(last); {
		<-ticker.C
	}
}

func localAddr(c net.Conn) netip.Addr {
	tcp, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}
