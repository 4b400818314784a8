package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/opts"
	"github.com/spf13/cobra"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
)

type envOptions struct {
	internal bool
	hostIP   string
	ports    []string
	format   string
}

func newEnvCommand(dockerCLI command.Cli) *cobra.Command {
	var options envOptions
	cmd := &cobra.Command{
		Use:   "env [OPTIONS] SLUG",
		Short: "Print the environment that a bottle's guest needs",
		Long: `Print the environment that a bottle's guest needs: the proxy variables and the addresses
of the bundle's other services, as published on the host or, with --internal, at the
bundle's own address.

Which port serves which variable is said by the labels bot-bottle.env.NAME of the
bundle's image, or by --port.

FORMATS
  shell     export statements, for eval
  dotenv    NAME=VALUE lines, for --env-file
  docker    -e arguments, for docker run
  json      one object
  smolfile  env and [network] allow_cidrs of a Smolfile

EXIT STATUS
  0    the environment was printed
  1    the bottle is not up, or a port is not published
  125  an option is unknown or malformed`,
		Example: `  eval "$(docker bottle env demo)"
  docker run $(docker bottle env --internal --format docker demo) --network bot-bottle-bundle-demo my-agent
  docker bottle env --port GIT_GATE=git:9418 --format smolfile demo >>Smolfile`,
		Args:              cli.ExactArgs(1),
		ValidArgsFunction: completeSlugs(dockerCLI, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runEnv(cmd.Context(), dockerCLI, args[0], options)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&options.internal, "internal", false, "Use the bundle's own address, for guests on the bottle's network")
	flags.StringVar(&options.hostIP, "host-ip", "", "Host address that the ports are published on (default: the bottle's)")
	flags.Var(opts.NewListOptsRef(&options.ports, nil), "port", "Container port that serves a variable: NAME=[SCHEME:]PORT[/PROTOCOL]")
	flags.StringVar(&options.format, "format", "shell", `Format of the output: "shell", "dotenv", "docker", "json", "smolfile"`)
	cmd.MarkFlagsMutuallyExclusive("internal", "host-ip")
	completeFixed(cmd, "format", "shell", "dotenv", "docker", "json", "smolfile")
	return cmd
}

func runEnv(ctx context.Context, dockerCLI command.Cli, slug string, options envOptions) error {
	write, found := map[string]func(io.Writer, *bundle.Guest) error{
		"shell":    writeShell,
		"dotenv":   writeDotenv,
		"docker":   writeDockerArguments,
		"json":     writeJSON,
		"smolfile": writeSmolfile,
	}[options.format]
	if !found {
		return &bundle.InvalidError{Field: "format", Value: options.format, Reason: "it is one of shell, dotenv, docker, json and smolfile"}
	}
	how := bundle.GuestOptions{Internal: options.internal, Endpoints: map[string]bundle.Endpoint{}}
	var err error
	if how.HostIP, err = parseAddr("host IP", options.hostIP); err != nil {
		return err
	}
	for _, text := range options.ports {
		name, endpoint, found := strings.Cut(text, "=")
		if !found || !bundle.IsVariableName(name) {
			return &bundle.InvalidError{Field: "port", Value: text, Reason: "want NAME=[SCHEME:]PORT[/PROTOCOL]"}
		}
		if how.Endpoints[name], err = bundle.ParseEndpoint(endpoint); err != nil {
			return err
		}
	}
	guest, err := newLifecycle(dockerCLI, nil).Guest(ctx, slug, how)
	if err != nil {
		return plainError(err)
	}
	return write(dockerCLI.Out(), guest)
}

// The values below are URLs made of addresses and ports, and lists of addresses: none has
// a quote, a space or a line break in it.

func writeShell(out io.Writer, guest *bundle.Guest) error {
	return writeEach(out, guest, "export %s='%s'\n")
}

func writeDotenv(out io.Writer, guest *bundle.Guest) error {
	return writeEach(out, guest, "%s=%s\n")
}

func writeDockerArguments(out io.Writer, guest *bundle.Guest) error {
	arguments := make([]string, len(guest.Variables))
	for i, v := range guest.Variables {
		arguments[i] = "-e " + v.Name + "=" + v.Value
	}
	_, err := fmt.Fprintln(out, strings.Join(arguments, " "))
	return err
}

func writeEach(out io.Writer, guest *bundle.Guest, format string) error {
	for _, v := range guest.Variables {
		if _, err := fmt.Fprintf(out, format, v.Name, v.Value); err != nil {
			return err
		}
	}
	return nil
}

func writeJSON(out io.Writer, guest *bundle.Guest) error {
	values := make(map[string]string, len(guest.Variables))
	for _, v := range guest.Variables {
		values[v.Name] = v.Value
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(values)
}

// writeSmolfile writes the top-level array before the table, as TOML wants it.
func writeSmolfile(out io.Writer, guest *bundle.Guest) error {
	var env strings.Builder
	for _, v := range guest.Variables {
		fmt.Fprintf(&env, "    %s,\n", strconv.Quote(v.Name+"="+v.Value))
	}
	only := netip.PrefixFrom(guest.Address, guest.Address.BitLen())
	_, err := fmt.Fprintf(out, "env = [\n%s]\n\n[network]\nallow_cidrs = [%q]\n", env.String(), only)
	return err
}
