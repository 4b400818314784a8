package main

import (
	"context"
	"fmt"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
)

func newPortCommand(dockerCLI command.Cli) *cobra.Command {
	var hostIP string
	cmd := &cobra.Command{
		Use:   "port [OPTIONS] SLUG [PORT[/PROTOCOL]]",
		Short: "Tell where a bottle's ports are published",
		Long: `Tell where a bottle's ports are published.

With PORT, print the host address of that container port; without it, print all of them.
Only ports published on the bottle's own host address count, or on the one given with
--host-ip.

EXIT STATUS
  0    the port is published
  1    it is not, or the bottle is not up
  125  an option is unknown or malformed`,
		Example: `  docker bottle port demo 3128
  docker bottle port --host-ip 127.0.0.16 demo 53/udp`,
		Args:              cli.RequiresRangeArgs(1, 2),
		ValidArgsFunction: completeSlugs(dockerCLI, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			port := ""
			if len(args) == 2 {
				port = args[1]
			}
			return runPort(cmd.Context(), dockerCLI, args[0], port, hostIP)
		},
	}
	cmd.Flags().StringVar(&hostIP, "host-ip", "", "Host address that the port is published on (default: the bottle's)")
	return cmd
}

func runPort(ctx context.Context, dockerCLI command.Cli, slug, port, hostIP string) error {
	address, err := parseAddr("host IP", hostIP)
	if err != nil {
		return err
	}
	if err := bundle.CheckSlug(slug); err != nil {
		return err
	}
	if port == "" {
		ports, err := newLifecycle(dockerCLI, nil).Ports(ctx, slug, address)
		if err != nil {
			return plainError(err)
		}
		for _, p := range ports {
			if _, err := fmt.Fprintf(dockerCLI.Out(), "%s -> %s\n", p.Key(), p.HostAddress()); err != nil {
				return err
			}
		}
		return nil
	}
	wanted, err := bundle.ParseContainerPort(port)
	if err != nil {
		return err
	}
	found, err := newLifecycle(dockerCLI, nil).HostPort(ctx, slug, wanted, address)
	if err != nil {
		return plainError(err)
	}
	_, err = fmt.Fprintln(dockerCLI.Out(), found.HostAddress())
	return err
}
