package egress

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is what a [Proxy] is made from. The zero value is not usable;
// [ConfigFromEnv] fills in every default.
type Config struct {
	// Listen is the proxy's TCP address, MetricsListen that of /metrics and
	// /healthz.
	Listen        string
	MetricsListen string

	// Allow holds allowlist entries; AllowFile names a file with more of them,
	// one a line. Both may be empty: then everything is refused.
	Allow     []string
	AllowFile string

	// Upstream is the proxy that all allowed traffic goes through, nil for
	// none. Its user information is sent as basic credentials and never logged.
	Upstream *url.URL

	// TLSServerName makes the server name of a ClientHello under CONNECT match
	// the CONNECT host. AllowECH lets a ClientHello with the
	// encrypted_client_hello extension through, whose real server name cannot
	// be seen.
	TLSServerName bool
	AllowECH      bool

	// MaxConnections bounds the client connections open at once,
	// MaxHeaderBytes one request's header block.
	MaxConnections int
	MaxHeaderBytes int

	HeaderTimeout  time.Duration // for a whole header block or ClientHello
	ConnectTimeout time.Duration // for DNS, TCP and an upstream's answer together
	IdleTimeout    time.Duration // without a byte in either direction
	DrainTimeout   time.Duration // for open work after a stop was asked for

	// ErrorLog receives what is not about one request, such as a reload; nil
	// means the log package's standard logger.
	ErrorLog *log.Logger

	network      network       // nil fields mean the real network
	pollInterval time.Duration // 0 means defaultPollInterval
}

// Defaults of the variables that have one.
const (
	// DefaultListen is every address of the bundle: the guest comes from
	// outside the container.
	DefaultListen = ":3128"
	// DefaultMetricsListen is the bundle's own loopback: the guest on the
	// bundle's network has no business reading what its bottle is measured by.
	DefaultMetricsListen = "127.0.0.1:9090"

	defaultMaxConnections = 1024
	defaultMaxHeaderBytes = 64 << 10
	defaultHeaderTimeout  = 10 * time.Second
	defaultConnectTimeout = 10 * time.Second
	defaultIdleTimeout    = 5 * time.Minute
	defaultDrainTimeout   = 5 * time.Second
)

const envPrefix = "EGRESS_"

// ConfigFromEnv reads the EGRESS_* entries of environ, each "KEY=VALUE" as
// [os.Environ] returns them; other entries are ignored, and of two with one
// name the last counts. An empty value is the same as an unset variable. The
// error names every variable that is wrong or unknown; allowlist entries are
// judged later, by [New].
func ConfigFromEnv(environ []string) (Config, error) {
	cfg := Config{
		Listen:         DefaultListen,
		MetricsListen:  DefaultMetricsListen,
		TLSServerName:  true,
		MaxConnections: defaultMaxConnections,
		MaxHeaderBytes: defaultMaxHeaderBytes,
		HeaderTimeout:  defaultHeaderTimeout,
		ConnectTimeout: defaultConnectTimeout,
		IdleTimeout:    defaultIdleTimeout,
		DrainTimeout:   defaultDrainTimeout,
	}
	settings := map[string]func(string) error{
		"EGRESS_LISTEN":           listenAddress(&cfg.Listen),
		"EGRESS_METRICS_LISTEN":   listenAddress(&cfg.MetricsListen),
		"EGRESS_ALLOW":            func(v string) error { cfg.Allow = splitEntries(v); return nil },
		"EGRESS_ALLOW_FILE":       func(v string) error { cfg.AllowFile = v; return nil },
		"EGRESS_UPSTREAM":         upstreamURL(&cfg.Upstream),
		"EGRESS_TLS_SNI":          choice(&cfg.TLSServerName, "enforce", "off"),
		"EGRESS_TLS_ECH":          choice(&cfg.AllowECH, "allow", "refuse"),
		"EGRESS_MAX_CONNECTIONS":  number(&cfg.MaxConnections, 1, 1<<20),
		"EGRESS_MAX_HEADER_BYTES": number(&cfg.MaxHeaderBytes, 4<<10, 1<<20),
		"EGRESS_HEADER_TIMEOUT":   duration(&cfg.HeaderTimeout),
		"EGRESS_CONNECT_TIMEOUT":  duration(&cfg.ConnectTimeout),
		"EGRESS_IDLE_TIMEOUT":     duration(&cfg.IdleTimeout),
		"EGRESS_DRAIN_TIMEOUT":    duration(&cfg.DrainTimeout),
	}

	given := map[string]string{}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, envPrefix) {
			given[name] = value
		}
	}
	var problems []error
	for _, name := range sortedKeys(given) {
		set, known := settings[name]
		if !known {
			problems = append(problems, fmt.Errorf("%s: unknown variable; egress knows %s",
				name, strings.Join(sortedKeys(settings), ", ")))
			continue
		}
		if given[name] == "" {
			continue
		}
		if err := set(given[name]); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
	}
	return cfg, errors.Join(problems...)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// splitEntries cuts a comma list. A blank value has no entries; a blank element
// between commas stays, to be refused with its position.
func splitEntries(v string) []string {
	if strings.TrimSpace(v) == "" {
		return nil
	}
	parts := strings.Split(v, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func listenAddress(dst *string) func(string) error {
	return func(v string) error {
		host, port, err := net.SplitHostPort(v)
		if err != nil {
			return fmt.Errorf("%q is not an address of the form [IP]:PORT", v)
		}
		if _, err := netip.ParseAddr(host); host != "" && err != nil {
			return fmt.Errorf("%q: %q is not an IP address; leave it empty for all of them", v, host)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("%q: port %q is not a number from 0 to 65535", v, port)
		}
		*dst = v
		return nil
	}
}

// upstreamURL never repeats the value in an error: it may hold a password.
func upstreamURL(dst **url.URL) func(string) error {
	return func(v string) error {
		u, err := url.Parse(v)
		if err != nil || u.Host == "" || u.Opaque != "" {
			return errors.New("not a URL of the form http://[USER:PASSWORD@]HOST:PORT")
		}
		if u.Scheme != "http" {
			return fmt.Errorf("scheme %q is not supported; the way to the upstream proxy is http://", u.Scheme)
		}
		if _, err := parsePort(u.Port()); err != nil {
			return fmt.Errorf("the upstream proxy's port: %w", err)
		}
		if u.Hostname() == "" {
			return errors.New("the upstream proxy's host is missing")
		}
		if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("a path, query or fragment has no meaning for a proxy; give http://HOST:PORT only")
		}
		*dst = &url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host}
		return nil
	}
}

func choice(dst *bool, yes, no string) func(string) error {
	return func(v string) error {
		switch v {
		case yes:
			*dst = true
		case no:
			*dst = false
		default:
			return fmt.Errorf("%q is neither %q nor %q", v, yes, no)
		}
		return nil
	}
}

func number(dst *int, lowest, highest int) func(string) error {
	return func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < lowest || n > highest {
			return fmt.Errorf("%q is not a number from %d to %d", v, lowest, highest)
		}
		*dst = n
		return nil
	}
}

func duration(dst *time.Duration) func(string) error {
	return func(v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q is not a duration above zero, such as 10s or 5m", v)
		}
		*dst = d
		return nil
	}
}
