package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/registry"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/spf13/cobra"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
)

type buildOptions struct {
	file      string
	tags      []string
	buildArgs []string
	target    string
	noCache   bool
	pull      bool
	secrets   []string
	progress  string
	quiet     bool
}

func newBuildCommand(dockerCLI command.Cli) *cobra.Command {
	var options buildOptions
	cmd := &cobra.Command{
		Use:   "build [OPTIONS] [CONTEXT]",
		Short: "Build a bundle image",
		Long: `Build a bundle image with the engine's own BuildKit.

Without CONTEXT, build the default bundle, which needs no registry. CONTEXT is a
directory, or the address of a Git repository or an archive. The image is tagged
` + bundle.DefaultImage + ` unless --tag says otherwise, so that up uses it.

Engines that offer no BuildKit build with their classic builder, as they do where
DOCKER_BUILDKIT=0 is set in the environment.

EXIT STATUS
  0    the image is built
  1    it is not
  125  an option is unknown or malformed
  130  interrupted`,
		Example: `  docker bottle build
  docker bottle build --build-arg PIPELOCK=example/pipelock examples/pipelock
  docker bottle build --secret id=token,env=API_TOKEN -t my-bundle .`,
		Args: cli.RequiresMaxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			buildContext := ""
			if len(args) == 1 {
				buildContext = args[0]
			}
			return runBuild(cmd.Context(), dockerCLI, buildContext, options)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&options.file, "file", "f", "", "Name of the Dockerfile (default: CONTEXT/Dockerfile)")
	flags.VarP(opts.NewListOptsRef(&options.tags, nil), "tag", "t", fmt.Sprintf("Name of the image (default %s)", bundle.DefaultImage))
	flags.Var(opts.NewListOptsRef(&options.buildArgs, nil), "build-arg", "Set a build-time variable: KEY=VALUE, or KEY to pass the caller's value on")
	flags.StringVar(&options.target, "target", "", "Set the target build stage to build")
	flags.BoolVar(&options.noCache, "no-cache", false, "Do not use cache when building the image")
	flags.BoolVar(&options.pull, "pull", false, "Always attempt to pull newer versions of base images")
	flags.Var(opts.NewListOptsRef(&options.secrets, nil), "secret", "Secret to expose to the build: id=ID[,src=PATH|,env=VARIABLE]")
	flags.StringVar(&options.progress, "progress", "auto", progressHelp)
	flags.BoolVarP(&options.quiet, "quiet", "q", false, "Print the image ID only")
	completeFixed(cmd, "progress", progressModes...)
	return cmd
}

func runBuild(ctx context.Context, dockerCLI command.Cli, buildContext string, options buildOptions) error {
	request, err := options.request(dockerCLI, buildContext)
	if err != nil {
		return err
	}
	progress, err := newProgress(dockerCLI.Err(), options.progress, options.quiet)
	if err != nil {
		return err
	}
	life := newLifecycle(dockerCLI, progress.report)
	var id string
	err = progress.during(func() (err error) {
		id, err = life.Build(ctx, request)
		return plainError(err)
	})
	if err == nil && options.quiet {
		_, err = fmt.Fprintln(dockerCLI.Out(), id)
	}
	return err
}

func (o buildOptions) request(dockerCLI command.Cli, buildContext string) (bundle.BuildOptions, error) {
	request := bundle.BuildOptions{
		Dockerfile: o.file,
		Tags:       o.tags,
		BuildArgs:  o.args(dockerCLI),
		Target:     o.target,
		NoCache:    o.noCache,
		Pull:       o.pull,
		Auth:       authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{ConfigFile: dockerCLI.ConfigFile()}),
	}
	switch {
	case buildContext == "-":
		return request, &bundle.InvalidError{Field: "build context", Value: buildContext, Reason: "it can't be read from standard input; give a directory"}
	case isRemote(buildContext):
		request.Remote = buildContext
	default:
		request.Dir = buildContext
	}
	if buildContext == "" && (o.file != "" || o.target != "") {
		return request, fmt.Errorf("--file and --target belong to a CONTEXT: give its directory")
	}
	var err error
	if request.Secrets, err = parseSecrets(o.secrets); err != nil {
		return request, err
	}
	if os.Getenv("DOCKER_BUILDKIT") == "0" {
		request.Builder = bundle.BuilderClassic
	}
	credentials, err := dockerCLI.ConfigFile().GetAllCredentials()
	if err != nil {
		return request, fmt.Errorf("registry credentials: %w", err)
	}
	request.AuthConfigs = make(map[string]registry.AuthConfig, len(credentials))
	for host, auth := range credentials {
		request.AuthConfigs[host] = registry.AuthConfig(auth)
	}
	return request, nil
}

// args returns the build arguments, with the proxies of the CLI's configuration, as docker
// build has them.
func (o buildOptions) args(dockerCLI command.Cli) map[string]*string {
	args := make([]string, len(o.buildArgs))
	for i, arg := range o.buildArgs {
		args[i] = arg
		if !strings.Contains(arg, "=") {
			if value, found := os.LookupEnv(arg); found {
				args[i] = arg + "=" + value
			}
		}
	}
	return dockerCLI.ConfigFile().ParseProxyConfig(dockerCLI.DockerEndpoint().Host, opts.ConvertKVStringsToMapWithNil(args))
}

// isRemote tells an address that the engine reads from a directory of this machine.
func isRemote(buildContext string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "git@", "ssh://", "github.com/"} {
		if strings.HasPrefix(buildContext, prefix) {
			return true
		}
	}
	return false
}

// parseSecrets reads secrets in docker build's form, and returns the service that hands
// them to the builder, nil for none.
func parseSecrets(texts []string) (session.Attachable, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	sources := make([]secretsprovider.Source, len(texts))
	for i, text := range texts {
		invalid := func(reason string) error {
			return &bundle.InvalidError{Field: "secret", Value: text, Reason: reason + "; want id=ID[,src=PATH|,env=VARIABLE]"}
		}
		fields, err := csvvalue.Fields(text, nil)
		if err != nil {
			return nil, invalid(err.Error())
		}
		source := &sources[i]
		kind := ""
		for _, field := range fields {
			key, value, found := strings.Cut(field, "=")
			if !found || value == "" {
				return nil, invalid(fmt.Sprintf("%q is not a KEY=VALUE pair", field))
			}
			switch key {
			case "id":
				source.ID = value
			case "src", "source":
				source.FilePath = value
			case "env":
				source.Env = value
			case "type":
				kind = value
			default:
				return nil, invalid(fmt.Sprintf("key %q is unknown", key))
			}
		}
		switch {
		case source.ID == "":
			return nil, invalid("it has no id")
		case source.FilePath != "" && source.Env != "":
			return nil, invalid("src and env exclude each other")
		case kind != "" && kind != "file" && kind != "env":
			return nil, invalid(fmt.Sprintf("type %q is unknown", kind))
		case source.Env != "":
			if _, found := os.LookupEnv(source.Env); !found {
				return nil, invalid(fmt.Sprintf("variable %s is not set", source.Env))
			}
		}
	}
	store, err := secretsprovider.NewStore(sources)
	if err != nil {
		return nil, err
	}
	return secretsprovider.NewSecretProvider(store), nil
}
