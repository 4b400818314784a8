package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
)

type downOptions struct {
	all      bool
	timeout  int
	parallel int
	quiet    bool
	progress string
}

func newDownCommand(dockerCLI command.Cli) *cobra.Command {
	var options downOptions
	cmd := &cobra.Command{
		Use:   "down [OPTIONS] SLUG [SLUG...]",
		Short: "Remove bottles' bundles and networks",
		Long: `Remove bottles' bundles and networks.

For each bottle, stop and remove its container, wait until it is gone, and remove its
network. A bottle that is not there is no error. A network that other containers are
attached to stays, and a warning names them.

EXIT STATUS
  0    nothing of the bottles is left, but for networks in use by others
  1    at least one could not be removed
  125  an option is unknown or malformed
  130  interrupted`,
		Example: `  docker bottle down demo
  docker bottle down agent-1 agent-2
  docker bottle down --all`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case options.all && len(args) > 0:
				return errors.New("--all takes no slugs")
			case !options.all && len(args) == 0:
				return errors.New("name the bottles to bring down, or give --all\n\nRun 'docker bottle down --help' for more information")
			}
			return nil
		},
		ValidArgsFunction: completeSlugs(dockerCLI, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			var timeout *int
			if cmd.Flags().Changed("timeout") {
				timeout = &options.timeout
			}
			return runDown(cmd.Context(), dockerCLI, args, timeout, options)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&options.all, "all", false, "Bring down every bottle of the engine")
	flags.IntVarP(&options.timeout, "timeout", "t", 10, "Seconds a bundle has to end by itself before it is killed")
	flags.IntVar(&options.parallel, "parallel", defaultParallel, "Bottles to work on at a time")
	flags.BoolVarP(&options.quiet, "quiet", "q", false, "Print no progress")
	flags.StringVar(&options.progress, "progress", "auto", progressHelp)
	completeFixed(cmd, "progress", progressModes...)
	return cmd
}

func runDown(ctx context.Context, dockerCLI command.Cli, args []string, timeout *int, options downOptions) error {
	slugs, err := uniqueSlugs(args)
	if err != nil {
		return err
	}
	if err := checkParallel(options.parallel); err != nil {
		return err
	}
	if timeout != nil && *timeout < 0 {
		return fmt.Errorf("invalid --timeout %d: it is not negative", *timeout)
	}
	progress, err := newProgress(dockerCLI.Err(), options.progress, options.quiet)
	if err != nil {
		return err
	}
	life := newLifecycle(dockerCLI, progress.report)
	if options.all {
		bottles, err := life.List(ctx)
		if err != nil {
			return plainError(err)
		}
		for _, bottle := range bottles {
			slugs = append(slugs, bottle.Slug)
		}
	}
	return progress.during(func() error {
		return eachBottle(ctx, progress.errOut(), slugs, options.parallel, func(ctx context.Context, _ int, slug string) error {
			return life.Down(ctx, slug, bundle.DownOptions{Timeout: timeout})
		})
	})
}
