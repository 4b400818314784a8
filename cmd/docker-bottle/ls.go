package main

import (
	"context"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"
)

func newListCommand(dockerCLI command.Cli) *cobra.Command {
	var (
		quiet  bool
		format string
	)
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list", "ps"},
		Short:   "List the engine's bottles",
		Long: `List the engine's bottles, also those whose bundle is not running and those of which
only the network is there.

EXIT STATUS
  0    the bottles were listed, even if there are none
  1    the engine could not be asked
  125  an option is unknown or malformed`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runList(cmd.Context(), dockerCLI, format, quiet)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&quiet, "quiet", "q", false, "Print slugs only")
	flags.StringVar(&format, "format", "", formatHelp)
	cmd.MarkFlagsMutuallyExclusive("quiet", "format")
	completeFixed(cmd, "format", "table", "json")
	return cmd
}

func runList(ctx context.Context, dockerCLI command.Cli, format string, quiet bool) error {
	printer, err := newPrinter(dockerCLI.Out(), format, quiet, `{{.Slug}}\t{{.Status}}\t{{.Address}}\t{{.Subnet}}\t{{.Ports}}`, "{{.Slug}}", summaryView{})
	if err != nil {
		return err
	}
	bottles, err := newLifecycle(dockerCLI, nil).List(ctx)
	if err != nil {
		return plainError(err)
	}
	views := make([]summaryView, len(bottles))
	for i, bottle := range bottles {
		views[i] = summaryView{bottle}
	}
	return printRows(printer, views)
}
