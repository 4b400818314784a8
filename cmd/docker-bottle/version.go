package main

import (
	"fmt"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"
)

func newVersionCommand(dockerCLI command.Cli) *cobra.Command {
	var short bool
	cmd := &cobra.Command{
		Use:   "version [OPTIONS]",
		Short: "Print the plugin's version",
		Args:  cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if short {
				_, err := fmt.Fprintln(dockerCLI.Out(), version)
				return err
			}
			_, err := fmt.Fprintf(dockerCLI.Out(), "docker-bottle version %s, build %s\n", version, commit)
			return err
		},
	}
	cmd.Flags().BoolVar(&short, "short", false, "Print the version number only")
	return cmd
}
