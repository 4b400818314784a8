package egress

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestConfigFromEnv(t *testing.T) {
	defaults := Config{
		Listen: ":3128", MetricsListen: "127.0.0.1:9090", TLSServerName: true, MaxConnections: 1024, MaxHeaderBytes: 65536,
		HeaderTimeout: 10 * time.Second, ConnectTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute, DrainTimeout: 5 * time.Second,
	}
	with := func(change func(*Config)) Config {
		c := defaults
		change(&c)
		return c
	}
	cases := []struct {
		name    string
		environ []string
		want    Config
	}{
		{"nothing", nil, defaults},
		{"not ours", []string{"PATH=/bin", "HTTP_PROXY=http://x", "egress_allow=x", "EGRESS"}, defaults},
		{"empty values", []string{"EGRESS_LISTEN=", "EGRESS_ALLOW= ", "EGRESS_UPSTREAM=", "EGRESS_IDLE_TIMEOUT="}, defaults},
		{"everything", []string{
			"EGRESS_LISTEN=10.0.0.2:8080", "EGRESS_METRICS_LISTEN=[::1]:1", "EGRESS_ALLOW=a.example, b.example:22 ,10.0.0.0/8",
			"EGRESS_ALLOW_FILE=/etc/allow", "EGRESS_UPSTREAM=http://u:p%40@proxy.example:3128/", "EGRESS_TLS_SNI=off", "EGRESS_TLS_ECH=allow",
			"EGRESS_MAX_CONNECTIONS=5", "EGRESS_MAX_HEADER_BYTES=4096", "EGRESS_HEADER_TIMEOUT=1s", "EGRESS_CONNECT_TIMEOUT=2s",
			"EGRESS_IDLE_TIMEOUT=1h", "EGRESS_DRAIN_TIMEOUT=500ms",
		}, Config{
			Listen: "10.0.0.2:8080", MetricsListen: "[::1]:1", Allow: []string{"a.example", "b.example:22", "10.0.0.0/8"}, AllowFile: "/etc/allow",
			Upstream: &url.URL{Scheme: "http", User: url.UserPassword("u", "p@"), Host: "proxy.example:3128"},
			AllowECH: true, MaxConnections: 5, MaxHeaderBytes: 4096,
			HeaderTimeout: time.Second, ConnectTimeout: 2 * time.Second, IdleTimeout: time.Hour, DrainTimeout: 500 * time.Millisecond,
		}},
		{"last one counts", []string{"EGRESS_LISTEN=:1", "EGRESS_LISTEN=:2"}, with(func(c *Config) { c.Listen = ":2" })},
		{"blank element stays", []string{"EGRESS_ALLOW=a,,b"}, with(func(c *Config) { c.Allow = []string{"a", "", "b"} })},
	}
	for _, c := range cases {
		got, err := ConfigFromEnv(c.environ)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		opts := cmp.Options{cmpopts.IgnoreUnexported(Config{}), cmp.Comparer(func(a, b *url.URL) bool {
			return a == b || a != nil && b != nil && a.String() == b.String()
		})}
		if diff := cmp.Diff(c.want, got, opts); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestConfigProblems(t *testing.T) {
	for environ, want := range map[string]string{
		"EGRESS_LISTEN=3128":               `EGRESS_LISTEN: "3128" is not an address`,
		"EGRESS_LISTEN=host:3128":          `"host" is not an IP address`,
		"EGRESS_LISTEN=:http":              `port "http"`,
		"EGRESS_METRICS_LISTEN=:70000":     "EGRESS_METRICS_LISTEN",
		"EGRESS_UPSTREAM=proxy:3128":       "EGRESS_UPSTREAM: not a URL",
		"EGRESS_UPSTREAM=https://proxy:1":  `scheme "https"`,
		"EGRESS_UPSTREAM=socks5://proxy:1": `scheme "socks5"`,
		"EGRESS_UPSTREAM=http://proxy":     "port",
		"EGRESS_UPSTREAM=http://:1":        "host is missing",
		"EGRESS_UPSTREAM=http://proxy:1/x": "path",
		"EGRESS_TLS_SNI=yes":               `"yes" is neither "enforce" nor "off"`,
		"EGRESS_TLS_ECH=on":                `neither "allow" nor "refuse"`,
		"EGRESS_MAX_CONNECTIONS=0":         "number from 1",
		"EGRESS_MAX_HEADER_BYTES=1":        "number from 4096",
		"EGRESS_HEADER_TIMEOUT=10":         "such as 10s",
		"EGRESS_IDLE_TIMEOUT=-1s":          "above zero",
		"EGRESS_ALOW=x":                    "EGRESS_ALOW: unknown variable; egress knows EGRESS_ALLOW, EGRESS_ALLOW_FILE, EGRESS_CONNECT_TIMEOUT",
	} {
		_, err := ConfigFromEnv([]string{environ})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", environ, err, want)
		}
	}
	_, err := ConfigFromEnv([]string{"EGRESS_X=1", "EGRESS_LISTEN=x", "EGRESS_TLS_SNI=x"})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three problems give %v", err)
	}
	for _, secret := range []string{"http://user:hunter2@proxy", "http://user:hunter2@pro xy:1", "user:hunter2@proxy:3128", "ftp://user:hunter2@proxy:1",
		"http://user:hunter2@proxy:99999", "http://user:hunter2%zz@proxy:1", "http://user:hunter2@proxy:1/x"} {
		if _, err := ConfigFromEnv([]string{"EGRESS_UPSTREAM=" + secret}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", secret, err)
		}
	}
}
