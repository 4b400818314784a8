package supervisor

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// EnvDaemons names the daemons to start, in order, separated by commas.
	// Spaces around a name do not count.
	EnvDaemons = "BOT_BOTTLE_SIDECAR_DAEMONS"

	// EnvLog chooses the format of the log: "text", the default, or "json".
	EnvLog = "BOT_BOTTLE_LOG"

	// DefaultDaemons is what EnvDaemons stands for where it is not set.
	DefaultDaemons = "egress"

	// DaemonDir holds the executables that are daemons by being there.
	DaemonDir = "/daemons"
)

const (
	// selfName stands before the supervisor's own log lines.
	selfName = "supervisor"

	// healthSuffix makes the name of a daemon's health check out of its own.
	healthSuffix = ".health"

	// argsSuffix and envSuffix make the names of the files with an executable's
	// arguments and a daemon's variables.
	argsSuffix = ".args"
	envSuffix  = ".env"

	maxNameLength = 63
)

// Config is what the environment of a bundle says to its supervisor.
type Config struct {
	// Daemons are the names of the daemons in the order in which they start:
	// at least one, each of them once.
	Daemons []string

	// Format is the format of the log.
	Format Format
}

// ConfigFromEnv reads EnvDaemons and EnvLog through lookup, which has the
// contract of os.LookupEnv. The error is a *[ConfigError].
func ConfigFromEnv(lookup func(string) (string, bool)) (Config, error) {
	var c Config
	switch value, _ := lookup(EnvLog); value {
	case "", "text":
		c.Format = Text
	case "json":
		c.Format = JSON
	default:
		return Config{}, &ConfigError{EnvLog, `is neither "text" nor "json"`}
	}
	value, set := lookup(EnvDaemons)
	if !set {
		value = DefaultDaemons
	}
	daemons, err := parseDaemons(value)
	if err != nil {
		return Config{Format: c.Format}, err
	}
	c.Daemons = daemons
	return c, nil
}

func parseDaemons(csv string) ([]string, error) {
	if strings.TrimSpace(csv) == "" {
		return nil, &ConfigError{EnvDaemons, "names no daemon"}
	}
	var names []string
	for i, name := range strings.Split(csv, ",") {
		name = strings.TrimSpace(name)
		if name == "" {
			return nil, &ConfigError{EnvDaemons, fmt.Sprintf("entry %d is empty", i+1)}
		}
		if reason := badName(name); reason != "" {
			return nil, &ConfigError{EnvDaemons, fmt.Sprintf("%q is no name of a daemon: %s", name, reason)}
		}
		if slices.Contains(names, name) {
			return nil, &ConfigError{EnvDaemons, fmt.Sprintf("names %q twice", name)}
		}
		names = append(names, name)
	}
	return names, nil
}

// badName says what keeps name from being a daemon's, or nothing. The rules
// keep a name inside DaemonDir, and a line of the log unambiguous.
func badName(name string) string {
	if len(name) > maxNameLength {
		return fmt.Sprintf("it is longer than %d bytes", maxNameLength)
	}
	for i, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case i > 0 && strings.ContainsRune("._-", r):
		default:
			return fmt.Sprintf("it must not have %q at byte %d", r, i)
		}
	}
	for suffix, what := range map[string]string{
		healthSuffix: "is the health check",
		argsSuffix:   "has the arguments",
		envSuffix:    "has the variables",
	} {
		if strings.HasSuffix(name, suffix) {
			return "NAME" + suffix + " " + what + " of a daemon"
		}
	}
	if name == selfName {
		return "it is the supervisor's own"
	}
	return ""
}
