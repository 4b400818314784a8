//go:build linux

// Command bottle-sidecars is PID 1 of the default bundle, each of its built-in
// daemons, and the bundle's health check.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"

	"github.com/bot-bottle/docker-bottle/pkg/sidecars/egress"
	"github.com/bot-bottle/docker-bottle/pkg/sidecars/supervisor"
)

const usage = `usage: bottle-sidecars [COMMAND]

Without a command, start the daemons named in BOT_BOTTLE_SIDECAR_DAEMONS
(comma-separated, "egress" when not set) and supervise them.

  daemon NAME   run one built-in daemon in the foreground
  health        ask the running supervisor whether every daemon is healthy
  version       print the version

BOT_BOTTLE_LOG=json writes the log as JSON lines.

EXIT STATUS
  0  stopped as told; healthy
  1  any other failure; not healthy
  2  unknown command
  3  the environment is malformed, or a daemon refuses its part of it
  4  a daemon is named that the image does not have
  5  a daemon kept failing
  6  told to stop, but a daemon had to be killed
`

// version is set by the linker.
var version = "devel"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 0:
		return supervise(stdout)
	case len(args) == 2 && args[0] == "daemon":
		return serve(args[1], stdout, stderr)
	case len(args) == 1 && args[0] == "health":
		return health(stdout)
	case len(args) == 1 && args[0] == "version":
		fmt.Fprintf(stdout, "bottle-sidecars %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return supervisor.ExitOK
	}
	fmt.Fprint(stderr, usage)
	return supervisor.ExitUsage
}

func supervise(stdout io.Writer) int {
	config, err := supervisor.ConfigFromEnv(os.LookupEnv)
	lines := supervisor.NewLog(stdout, config.Format)
	if err != nil {
		lines.Printf("%v", err)
		return supervisor.ExitStatus(err)
	}
	address, err := supervisor.HealthAddress()
	if err != nil {
		lines.Printf("%v", err)
		return supervisor.ExitStatus(err)
	}
	return supervisor.ExitStatus(supervisor.Run(supervisor.Options{
		Daemons:  config.Daemons,
		Builtins: builtins(),
		Dir:      supervisor.DaemonDir,
		Address:  address,
		Log:      lines,
	}))
}

func serve(name string, stdout, stderr io.Writer) int {
	factory, ok := builtins()[name]
	if !ok {
		fmt.Fprintf(stderr, "no built-in daemon is called %q\n", name)
		return supervisor.ExitUnknown
	}
	address, err := supervisor.HealthAddress()
	if err == nil {
		err = supervisor.ServeBuiltin(name, factory, address, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
	}
	return supervisor.ExitStatus(err)
}

func health(stdout io.Writer) int {
	address, err := supervisor.HealthAddress()
	if err != nil {
		fmt.Fprintln(stdout, err)
		return supervisor.ExitFailure
	}
	statuses, err := supervisor.AskHealth(context.Background(), address)
	if err != nil {
		fmt.Fprintln(stdout, "the supervisor does not answer:", err)
		return supervisor.ExitFailure
	}
	exit := supervisor.ExitOK
	for _, status := range statuses {
		if !status.Healthy() {
			fmt.Fprintln(stdout, status.Daemon, status.Problem)
			exit = supervisor.ExitFailure
		}
	}
	return exit
}

func builtins() map[string]supervisor.Factory {
	return map[string]supervisor.Factory{
		"egress": func(environ []string, out io.Writer) (supervisor.Builtin, error) {
			config, err := egress.ConfigFromEnv(environ)
			if err != nil {
				return nil, err
			}
			config.ErrorLog = log.New(os.Stderr, "", 0)
			return egress.New(config, out)
		},
	}
}
