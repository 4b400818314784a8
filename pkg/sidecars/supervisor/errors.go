package supervisor

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Exit statuses of the bundle's PID 1, and of a built-in daemon run on its own.
const (
	ExitOK        = 0 // stopped because it was told to, every daemon by itself
	ExitFailure   = 1 // anything that has no status of its own; from the health check: not healthy
	ExitUsage     = 2 // words on the command line that mean nothing
	ExitConfig    = 3 // the environment or a file beside a daemon is malformed, or a built-in daemon refuses its part
	ExitUnknown   = 4 // a daemon is named that the image does not have
	ExitGaveUp    = 5 // a daemon failed more often than it is started again
	ExitUndrained = 6 // told to stop, but a daemon had to be killed
)

// ExitStatus returns the status a process ends with when err is what became of
// it.
func ExitStatus(err error) int {
	var (
		config  *ConfigError
		file    *FileError
		refused *RefusedError
		unknown *UnknownDaemonError
		gaveUp  *GaveUpError
	)
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &config), errors.As(err, &file), errors.As(err, &refused):
		return ExitConfig
	case errors.As(err, &unknown):
		return ExitUnknown
	case errors.As(err, &gaveUp):
		return ExitGaveUp
	case errors.Is(err, ErrUndrained):
		return ExitUndrained
	}
	return ExitFailure
}

// ErrUndrained is returned when the bundle stopped as it was told to, but a
// daemon outlived Limits.Grace and was killed.
var ErrUndrained = errors.New("a daemon had to be killed")

// ConfigError reports an environment variable that cannot be made sense of.
type ConfigError struct {
	Variable string
	Reason   string
}

func (e *ConfigError) Error() string { return e.Variable + " " + e.Reason }

// FileError reports a file beside the daemons, with arguments or variables, that
// cannot be made sense of. It repeats no values.
type FileError struct {
	Path   string
	Line   int // from 1; 0 for the file as a whole
	Reason string
}

func (e *FileError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s line %d: %s", e.Path, e.Line, e.Reason)
	}
	return e.Path + ": " + e.Reason
}

// UnknownDaemonError reports daemons that are neither built in nor executables
// in the directory of daemons.
type UnknownDaemonError struct {
	Names []string // not known, in the order named
	Known []string // what there is, sorted
}

func (e *UnknownDaemonError) Error() string {
	quoted := make([]string, len(e.Names))
	for i, name := range e.Names {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	noun := "an unknown daemon"
	if len(quoted) > 1 {
		noun = "unknown daemons"
	}
	known := "none"
	if len(e.Known) > 0 {
		known = strings.Join(e.Known, ", ")
	}
	return fmt.Sprintf("%s names %s: %s; this image has: %s",
		EnvDaemons, noun, strings.Join(quoted, ", "), known)
}

// RefusedError reports a built-in daemon that refuses its configuration.
type RefusedError struct {
	Daemon string
	Err    error // what it refuses, nil where its own log lines say so
}

func (e *RefusedError) Error() string {
	if e.Err == nil {
		return e.Daemon + " refuses its configuration"
	}
	return fmt.Sprintf("%s refuses its configuration: %v", e.Daemon, e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// GaveUpError reports a daemon that is not started again.
type GaveUpError struct {
	Daemon   string
	Failures int           // how often it failed
	Window   time.Duration // in what time
	Last     error         // how it failed the last time
}

func (e *GaveUpError) Error() string {
	return fmt.Sprintf("gave up on %s: %d failures within %v, the last: it %v", e.Daemon, e.Failures, e.Window, e.Last)
}

func (e *GaveUpError) Unwrap() error { return e.Last }
