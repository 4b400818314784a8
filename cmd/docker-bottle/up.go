package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/opts"
	"github.com/docker/cli/pkg/kvfile"
	"github.com/spf13/cobra"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

type upOptions struct {
	env      []string
	envFiles []string
	volumes  []string
	publish  []string
	hostIP   string
	image    string
	daemons  string

	subnet  string
	gateway string
	ip      string
	pool    string

	isolation isolationOptions

	pull          string
	forceRecreate bool
	noRecreate    bool
	wait          bool
	waitTimeout   seconds
	logLines      int

	parallel int
	quiet    bool
	format   string
	progress string
}

func newUpCommand(dockerCLI command.Cli) *cobra.Command {
	var options upOptions
	cmd := &cobra.Command{
		Use:   "up [OPTIONS] SLUG [SLUG...]",
		Short: "Bring bottles' bundles up",
		Long: `Bring bottles' bundles up.

For each bottle, make its network, with a subnet derived from the slug, start its
bundle at a pinned address in it, publish the bundle's ports on the host's loopback,
and print where they are. What runs as asked for already is left alone; what was
started otherwise is replaced.

The bundle's image is built when it is missing, and is never pulled from a registry;
another image named with --image is pulled.

EXIT STATUS
  0    the bundles are up
  1    at least one is not; what was created for it has been removed again
  125  an option is unknown or malformed
  130  interrupted; what was created has been removed again`,
		Example: `  docker bottle up demo
  docker bottle up -e API_TOKEN -v "$PWD/rules:/etc/rules:ro" demo
  ip=$(docker bottle up --quiet demo)
  docker bottle up --wait --format json agent-1 agent-2 agent-3`,
		Args: cli.RequiresMinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := options.spec()
			if err != nil {
				return err
			}
			if spec.Isolation, err = options.isolation.isolation(cmd.Flags()); err != nil {
				return err
			}
			return runUp(cmd.Context(), dockerCLI, args, spec, options)
		},
	}
	flags := cmd.Flags()
	flags.VarP(opts.NewListOptsRef(&options.env, nil), "env", "e", "Set an environment variable: KEY=VALUE, or KEY to pass the caller's value on")
	flags.Var(opts.NewListOptsRef(&options.envFiles, nil), "env-file", "Read environment variables from a file")
	flags.VarP(opts.NewListOptsRef(&options.volumes, nil), "volume", "v", "Bind mount a host path: HOST-PATH:CONTAINER-PATH[:ro]")
	flags.VarP(opts.NewListOptsRef(&options.publish, nil), "publish", "p", "Publish a container port on the host: [[HOST-IP:][HOST-PORT]:]PORT[/PROTOCOL] (default: those of the image's label)")
	flags.StringVar(&options.hostIP, "host-ip", "", `Host address to publish ports on, or "auto" for a loopback address of the bottle's own (default 127.0.0.1)`)
	flags.StringVar(&options.image, "image", bundle.DefaultImage, "Image of the bundle")
	flags.StringVar(&options.daemons, "daemons", "", "Daemons to start, separated by commas (default: those of the image's label)")
	flags.StringVar(&options.subnet, "subnet", "", "Subnet of the bottle's network in CIDR format (default: one from the pool)")
	flags.StringVar(&options.gateway, "gateway", "", "Gateway of the subnet (default: its host number 1)")
	flags.StringVar(&options.ip, "ip", "", "Address of the bundle (default: host number 2 of the subnet)")
	flags.StringVar(&options.pool, "pool", "", fmt.Sprintf("Pool that subnets are taken from: PREFIX[,PREFIX...][,size=BITS] (default %q)", netalloc.DefaultPool()))
	options.isolation.addFlags(flags)
	flags.StringVar(&options.pull, "pull", string(bundle.PullMissing), `Pull or build the image before the start: "always", "missing", "never"`)
	flags.BoolVar(&options.forceRecreate, "force-recreate", false, "Replace the bundle even if nothing changed")
	flags.BoolVar(&options.noRecreate, "no-recreate", false, "Leave a bundle that exists as it is, even if it was started otherwise")
	flags.BoolVar(&options.wait, "wait", false, "Wait until the bundle is healthy or, without a health check, has stayed up")
	flags.Var(&options.waitTimeout, "wait-timeout", "How long to wait, in seconds or as 1m30s; without a health check, how long the bundle has to stay up (default 60, or 2)")
	flags.IntVar(&options.logLines, "log-lines", 20, "Log lines to show of a bundle that exits")
	flags.IntVar(&options.parallel, "parallel", defaultParallel, "Bottles to work on at a time")
	flags.BoolVarP(&options.quiet, "quiet", "q", false, "Print the bundle's address only")
	flags.StringVar(&options.format, "format", "", formatHelp)
	flags.StringVar(&options.progress, "progress", "auto", progressHelp)
	cmd.MarkFlagsMutuallyExclusive("subnet", "pool")
	cmd.MarkFlagsMutuallyExclusive("force-recreate", "no-recreate")
	cmd.MarkFlagsMutuallyExclusive("quiet", "format")
	completeFixed(cmd, "pull", "always", "missing", "never")
	completeFixed(cmd, "progress", progressModes...)
	completeFixed(cmd, "format", "table", "json")
	return cmd
}

func runUp(ctx context.Context, dockerCLI command.Cli, args []string, spec bundle.Spec, options upOptions) error {
	slugs, err := uniqueSlugs(args)
	if err != nil {
		return err
	}
	if len(slugs) > 1 && (spec.Subnet.IsValid() || spec.Gateway.IsValid() || spec.Address.IsValid()) {
		return errors.New("--subnet, --gateway and --ip belong to one bottle: give one slug")
	}
	for _, slug := range slugs {
		spec.Slug = slug
		if err := spec.Check(); err != nil {
			return err
		}
	}
	how, err := options.upOptions()
	if err != nil {
		return err
	}
	if err := checkParallel(options.parallel); err != nil {
		return err
	}
	printer, err := newPrinter(dockerCLI.Out(), options.format, options.quiet, `{{.Slug}}\t{{.Address}}\t{{.Subnet}}\t{{.Ports}}`, "{{.Address}}", bundleView{&bundle.Bundle{}})
	if err != nil {
		return err
	}
	progress, err := newProgress(dockerCLI.Err(), options.progress, options.quiet)
	if err != nil {
		return err
	}
	spec.Env = append(proxyEnv(dockerCLI, spec.Env), spec.Env...)
	life := newLifecycle(dockerCLI, progress.report)
	bundles := make([]*bundle.Bundle, len(slugs)) // nil where the bottle failed
	err = progress.during(func() error {
		return eachBottle(ctx, progress.errOut(), slugs, options.parallel, func(ctx context.Context, i int, slug string) (err error) {
			spec := spec
			spec.Slug = slug
			bundles[i], err = life.Up(ctx, spec, how)
			return err
		})
	})
	var views []bundleView
	for _, up := range bundles {
		if up != nil {
			views = append(views, bundleView{up})
		}
	}
	if len(views) == 0 {
		return err
	}
	if printErr := printRows(printer, views); err == nil {
		err = printErr
	}
	return err
}

// spec returns the spec of the flags, with everything but the slug.
func (o upOptions) spec() (bundle.Spec, error) {
	spec := bundle.Spec{Image: o.image, Daemons: bundle.SplitList(o.daemons)}
	var err error
	for _, file := range o.envFiles {
		entries, err := readEnvFile(file)
		if err != nil {
			return spec, err
		}
		spec.Env = append(spec.Env, entries...)
	}
	spec.Env = append(spec.Env, o.env...)
	for _, text := range o.volumes {
		volume, err := bundle.ParseVolume(text)
		if err != nil {
			return spec, err
		}
		spec.Volumes = append(spec.Volumes, volume)
	}
	for _, text := range o.publish {
		ports, err := bundle.ParsePort(text)
		if err != nil {
			return spec, err
		}
		spec.Ports = append(spec.Ports, ports...)
	}
	if o.hostIP == "auto" {
		spec.HostIPAuto = true
	} else if spec.HostIP, err = parseAddr("host IP", o.hostIP); err != nil {
		return spec, err
	}
	if o.subnet != "" {
		if spec.Subnet, err = netip.ParsePrefix(o.subnet); err != nil {
			return spec, &bundle.InvalidError{Field: "subnet", Value: o.subnet, Reason: "it is not in CIDR format, such as 10.112.7.0/24"}
		}
	}
	if spec.Gateway, err = parseAddr("gateway", o.gateway); err != nil {
		return spec, err
	}
	if spec.Address, err = parseAddr("IP address", o.ip); err != nil {
		return spec, err
	}
	if o.pool != "" {
		if spec.Pool, err = netalloc.ParsePool(o.pool); err != nil {
			return spec, err
		}
	}
	return spec, nil
}

func (o upOptions) upOptions() (bundle.UpOptions, error) {
	pull, err := bundle.ParsePullPolicy(o.pull)
	if err != nil {
		return bundle.UpOptions{}, err
	}
	how := bundle.UpOptions{Pull: pull, Wait: o.wait, WaitTimeout: time.Duration(o.waitTimeout), LogLines: o.logLines}
	switch {
	case o.logLines < 0:
		return how, fmt.Errorf("invalid --log-lines %d: it is not negative", o.logLines)
	case o.logLines == 0:
		how.LogLines = -1
	}
	switch {
	case o.forceRecreate:
		how.Recreate = bundle.RecreateAlways
	case o.noRecreate:
		how.Recreate = bundle.RecreateNever
	}
	return how, nil
}

// readEnvFile reads a file of KEY=VALUE and KEY lines as docker run does, but keeps a bare
// KEY, so that one without a value can be told of.
func readEnvFile(name string) ([]string, error) {
	var bare []string
	entries, err := kvfile.Parse(name, func(key string) (string, bool) {
		bare = append(bare, key)
		return "", false
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil, &bundle.InvalidError{Field: "env file", Value: name, Reason: "there is no such file"}
	}
	if err != nil {
		return nil, err
	}
	return append(bare, entries...), nil
}

func parseAddr(field, text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return address, &bundle.InvalidError{Field: field, Value: text, Reason: "it is not an IP address"}
	}
	return address, nil
}
