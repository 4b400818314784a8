// Docker-bottle is a Docker CLI plugin: "docker bottle" brings the sidecar bundles of
// isolated AI-agent environments up and down.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli-plugins/metadata"
	"github.com/docker/cli/cli-plugins/plugin"
	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"
)

// Set by the linker, see the Makefile.
var (
	version = "dev"
	commit  = "unknown"
)

func main() {
	plugin.Run(newRootCommand, metadata.Metadata{
		SchemaVersion:    "0.1.0",
		Vendor:           "bot-bottle",
		Version:          version,
		ShortDescription: "Bring agent bottles' sidecar bundles up and down",
		URL:              "https://github.com/bot-bottle/docker-bottle",
	})
}

func newRootCommand(dockerCLI command.Cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bottle",
		Short: "Bring agent bottles' sidecar bundles up and down",
		Long: `Bring agent bottles' sidecar bundles up and down.

A bottle is one isolated AI-agent environment, named by a slug. Its bundle is one
container with all of its sidecar daemons, at a pinned address of a network that
belongs to that bottle alone.`,
		Args: cli.NoArgs,
		RunE: command.ShowHelp(dockerCLI.Err()),
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			if err := plugin.PersistentPreRunE(cmd, args); err != nil {
				return err
			}
			cmd.SetContext(untilSignal(cmd.Context()))
			return nil
		},
	}
	cmd.AddCommand(
		newUpCommand(dockerCLI),
		newDownCommand(dockerCLI),
		newPortCommand(dockerCLI),
		newListCommand(dockerCLI),
		newEnvCommand(dockerCLI),
		newBuildCommand(dockerCLI),
		newVersionCommand(dockerCLI),
	)
	for _, verb := range cmd.Commands() {
		if verb.RunE != nil {
			verb.RunE = withExitStatus(verb.RunE)
		}
	}
	return cmd
}

// untilSignal cancels a context at the first interrupt. Newer CLIs tell their plugins
// over a socket as well; older ones leave them to the terminal. A second interrupt ends
// the process without a clean-up.
func untilSignal(ctx context.Context) context.Context {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}

const exitInterrupted = 130 // 128 + SIGINT, as shells have it

// withExitStatus gives an interrupted command the status that scripts expect of one.
func withExitStatus(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		if err == nil || cmd.Context().Err() == nil || !errors.Is(err, context.Canceled) {
			return err
		}
		return cli.StatusError{Cause: err, Status: "interrupted: " + err.Error(), StatusCode: exitInterrupted}
	}
}
