package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/docker/client"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
	"github.com/bot-bottle/docker-bottle/pkg/sidecars"
)

// newLifecycle connects to the engine of the CLI's current context.
func newLifecycle(dockerCLI command.Cli, progress func(bundle.Event)) *bundle.Lifecycle {
	return &bundle.Lifecycle{
		Engine:       dockerCLI.Client(),
		Local:        bundle.IsLocal(dockerCLI.DockerEndpoint().Host),
		BuildContext: sidecars.BuildContext,
		RegistryAuth: func(_ context.Context, image string) (string, error) {
			return command.RetrieveAuthTokenFromImage(dockerCLI.ConfigFile(), image)
		},
		Progress: progress,
	}
}

// eachBottle runs do for several bottles, at most limit at a time. One that fails does
// not stop the others. The error tells what failed of one bottle, or how many of several.
func eachBottle(ctx context.Context, errOut io.Writer, slugs []string, limit int, do func(context.Context, int, string) error) error {
	errs := make([]error, len(slugs))
	var group errgroup.Group
	group.SetLimit(limit)
	for i, slug := range slugs {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				errs[i] = context.Cause(ctx)
				return nil
			}
			errs[i] = do(ctx, i, slug)
			return nil
		})
	}
	_ = group.Wait() // the functions return nil; errs has the errors
	if len(slugs) == 1 {
		return plainError(errs[0])
	}
	var failed []string
	for i, err := range errs {
		if err != nil {
			_, _ = fmt.Fprintf(errOut, "%s: %v\n", slugs[i], plainError(err))
			failed = append(failed, slugs[i])
		}
	}
	if len(failed) == 0 {
		return nil
	}
	summary := fmt.Errorf("%d of %d bottles failed: %s", len(failed), len(slugs), strings.Join(failed, ", "))
	if errors.Is(errors.Join(errs...), context.Canceled) {
		return cli.StatusError{Cause: fmt.Errorf("%w: %w", summary, context.Canceled), StatusCode: exitInterrupted}
	}
	return summary
}

// plainError drops what was being asked of an engine that can't be reached at all: the
// client's own words say it all. What was being asked of one that hangs up matters.
func plainError(err error) error {
	if client.IsErrConnectionFailed(err) && !isHangUp(err) {
		for inner := err; inner != nil; inner = errors.Unwrap(inner) {
			if !client.IsErrConnectionFailed(inner) {
				break
			}
			err = inner
		}
	}
	return err
}

// isHangUp reports whether the engine ended a connection without an answer.
func isHangUp(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// uniqueSlugs returns the arguments without repetition after checking each.
func uniqueSlugs(args []string) ([]string, error) {
	var slugs []string
	for _, slug := range args {
		if err := bundle.CheckSlug(slug); err != nil {
			return nil, err
		}
		if !slices.Contains(slugs, slug) {
			slugs = append(slugs, slug)
		}
	}
	return slugs, nil
}

// proxyEnv returns what docker run sets in a container's environment from the proxies of
// the CLI's configuration, for the names that env leaves out.
func proxyEnv(dockerCLI command.Cli, env []string) []string {
	given := map[string]*string{}
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		given[name] = nil
	}
	var added []string
	for name, value := range dockerCLI.ConfigFile().ParseProxyConfig(dockerCLI.DockerEndpoint().Host, maps.Clone(given)) {
		if _, ok := given[name]; !ok && value != nil {
			added = append(added, name+"="+*value)
		}
	}
	slices.Sort(added)
	return added
}

// completeSlugs offers the bottles that the engine has.
func completeSlugs(dockerCLI command.Cli, several bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 && !several {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		bottles, err := newLifecycle(dockerCLI, nil).List(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var slugs []string
		for _, bottle := range bottles {
			if !slices.Contains(args, bottle.Slug) {
				slugs = append(slugs, bottle.Slug)
			}
		}
		return slugs, cobra.ShellCompDirectiveNoFileComp
	}
}

// defaultParallel is how many bottles are worked on at a time: an engine's own work for
// one start is mostly serial, so more gain little.
const defaultParallel = 8

func checkParallel(n int) error {
	if n < 1 {
		return fmt.Errorf("invalid --parallel %d: it is at least 1", n)
	}
	return nil
}
