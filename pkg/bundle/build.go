package bundle

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	buildtypes "github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/moby/buildkit/session"
	"github.com/moby/go-archive"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Builder names one of the engine's builders.
type Builder string

const (
	BuilderAuto     Builder = ""         // BuildKit, or the classic builder where an engine has no other
	BuilderBuildKit Builder = "buildkit" // fail where the engine has none
	BuilderClassic  Builder = "classic"
)

// BuildOptions describe an image build. At most one of Dir, Files and Remote is set; none
// of them means the default bundle.
type BuildOptions struct {
	Dir    string // a directory of this machine
	Files  fs.FS  // regular files at its top level
	Remote string // a Git or HTTP address that the engine reads itself

	// Dockerfile is a path, relative to the context or, with Dir, a file of this machine.
	// Default: Dockerfile in the context.
	Dockerfile string

	Tags      []string // default: [DefaultImage]
	BuildArgs map[string]*string
	Target    string
	NoCache   bool
	Pull      bool // look for newer base images
	Builder   Builder

	// Secrets and Auth are served to BuildKit over the build's session.
	Secrets session.Attachable
	Auth    session.Attachable
	// AuthConfigs gives the classic builder its credentials, by registry.
	AuthConfigs map[string]registry.AuthConfig
}

// Build builds an image on the engine and returns its ID. BuildKit is reached through the
// engine's own API with a client session, so no further component is needed. A
// .dockerignore file in the context is honoured. Errors: [*InvalidError] for a context or
// Dockerfile that is not there.
func (l *Lifecycle) Build(ctx context.Context, options BuildOptions) (string, error) {
	if len(options.Tags) == 0 {
		options.Tags = []string{DefaultImage}
	}
	for _, tag := range options.Tags {
		if err := checkImage(tag); err != nil {
			return "", err
		}
	}
	if options.Dir == "" && options.Files == nil && options.Remote == "" {
		standard, err := l.defaultBuild(ctx)
		if err != nil {
			return "", err
		}
		options.Files = standard.Files
	}
	if options.Dir != "" {
		if err := checkContext(options.Dir); err != nil {
			return "", err
		}
		if _, err := dockerfilePath(options.Dir, options.Dockerfile); err != nil {
			return "", err
		}
	}
	return l.build(ctx, "", options)
}

func (l *Lifecycle) build(ctx context.Context, slug string, options BuildOptions) (id string, err error) {
	fallback := options.Builder == BuilderAuto
	if fallback {
		if options.Builder, err = l.chooseBuilder(ctx); err != nil {
			return "", fmt.Errorf("build image %s: %w", options.Tags[0], err)
		}
	}
	step := Step{Slug: slug, Action: ActionBuild, Object: options.Tags[0]}
	err = l.step(step, func() error {
		if id, err = l.buildWith(ctx, step, options, fallback); err != nil {
			return fmt.Errorf("build image %s: %w", options.Tags[0], err)
		}
		return nil
	})
	return id, err
}

// chooseBuilder returns BuildKit unless the engine clearly has none.
func (l *Lifecycle) chooseBuilder(ctx context.Context) (Builder, error) {
	ping, err := l.Engine.Ping(ctx)
	if err != nil {
		return "", err
	}
	// An engine that leaves the version out may have BuildKit all the same: 20.10 does.
	if ping.BuilderVersion == buildtypes.BuilderV1 || ping.OSType == "windows" {
		return BuilderClassic, nil
	}
	return BuilderBuildKit, nil
}

// buildWith builds with the builder that was chosen or, where fallback says so, with the
// classic one if there is no BuildKit after all.
func (l *Lifecycle) buildWith(ctx context.Context, step Step, options BuildOptions, fallback bool) (string, error) {
	if options.Builder == BuilderClassic {
		return l.buildClassic(ctx, step, options)
	}
	id, err := l.buildKit(ctx, step, options)
	if fallback && isNoSession(err) {
		return l.buildClassic(ctx, step, options)
	}
	return id, err
}

func (l *Lifecycle) buildClassic(ctx context.Context, step Step, options BuildOptions) (string, error) {
	if options.Secrets != nil {
		return "", &InvalidError{Field: "builder", Value: string(BuilderClassic), Reason: "build secrets need BuildKit, which this engine does not offer"}
	}
	body, dockerfile, err := classicContext(options)
	if err != nil {
		return "", err
	}
	if body != nil {
		defer body.Close()
	}
	response, err := l.Engine.ImageBuild(ctx, body, buildtypes.ImageBuildOptions{
		Version:       buildtypes.BuilderV1,
		RemoteContext: options.Remote,
		Dockerfile:    dockerfile,
		Tags:          options.Tags,
		BuildArgs:     options.BuildArgs,
		Target:        options.Target,
		NoCache:       options.NoCache,
		PullParent:    options.Pull,
		Remove:        true,
		ForceRemove:   true,
		AuthConfigs:   options.AuthConfigs,
	})
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	return readBuild(response.Body, func(message jsonmessage.JSONMessage) error {
		if message.Stream != "" {
			l.emit(BuildOutput{Step: step, Text: message.Stream})
		}
		return nil
	})
}

// readBuild reads the answer to a build request to its end and returns the image's ID.
func readBuild(body io.Reader, other func(jsonmessage.JSONMessage) error) (string, error) {
	var result buildtypes.Result
	decoder := json.NewDecoder(body)
	for {
		var message jsonmessage.JSONMessage
		switch err := decoder.Decode(&message); {
		case errors.Is(err, io.EOF) && result.ID == "":
			return "", fmt.Errorf("the engine ended the build without an image: %w", io.ErrUnexpectedEOF)
		case errors.Is(err, io.EOF):
			return result.ID, nil
		case err != nil:
			return "", fmt.Errorf("read the engine's answer: %w", err)
		case message.Error != nil:
			return "", message.Error
		}
		if message.Aux != nil && (message.ID == "" || message.ID == "moby.image.id") {
			if err := json.Unmarshal(*message.Aux, &result); err != nil {
				return "", fmt.Errorf("read the engine's answer: %w", err)
			}
			continue
		}
		if err := other(message); err != nil {
			return "", err
		}
	}
}

// classicContext returns the context as the tar stream that the classic builder takes,
// and the Dockerfile's path in it.
func classicContext(options BuildOptions) (io.ReadCloser, string, error) {
	dockerfile := options.Dockerfile
	if dockerfile == "" {
		dockerfile = "Dockerfile"
	}
	if options.Remote != "" {
		return nil, dockerfile, nil
	}
	if options.Files != nil {
		return tarFiles(options.Files), dockerfile, nil
	}
	path, err := dockerfilePath(options.Dir, options.Dockerfile)
	if err != nil {
		return nil, "", err
	}
	dir, err := filepath.Abs(options.Dir)
	if err != nil {
		return nil, "", err
	}
	inContext, err := filepath.Rel(dir, path)
	if err != nil || !filepath.IsLocal(inContext) {
		return nil, "", &InvalidError{Field: "Dockerfile", Value: options.Dockerfile, Reason: "a Dockerfile outside of the context needs BuildKit, which this engine does not offer"}
	}
	inContext = filepath.ToSlash(inContext)
	excludes, err := readIgnore(dir)
	if err != nil {
		return nil, "", err
	}
	// The builder needs these two whatever is ignored.
	for _, name := range []string{".dockerignore", inContext} {
		if ignored, _ := patternmatcher.MatchesOrParentMatches(name, excludes); ignored {
			excludes = append(excludes, "!"+name)
		}
	}
	body, err := archive.TarWithOptions(dir, &archive.TarOptions{
		ExcludePatterns: excludes,
		// A context is the same whoever sends it.
		ChownOpts: &archive.ChownOpts{UID: 0, GID: 0},
	})
	if err != nil {
		return nil, "", fmt.Errorf("read build context %s: %w", options.Dir, err)
	}
	return body, inContext, nil
}

func tarFiles(files fs.FS) io.ReadCloser {
	reader, writer := io.Pipe()
	go func() {
		archive := tar.NewWriter(writer)
		err := archive.AddFS(files)
		if err == nil {
			err = archive.Close()
		}
		writer.CloseWithError(err)
	}()
	return reader
}

func readIgnore(dir string) ([]string, error) {
	file, err := os.Open(filepath.Join(dir, ".dockerignore"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	patterns, err := ignorefile.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	return patterns, nil
}

func checkContext(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &InvalidError{Field: "build context", Value: dir, Reason: "there is no such directory"}
	case err != nil:
		return fmt.Errorf("build context %s: %w", dir, err)
	case !info.IsDir():
		return &InvalidError{Field: "build context", Value: dir, Reason: "it is not a directory"}
	}
	return nil
}

// dockerfilePath returns the absolute path of a Dockerfile that is given relative to the
// working directory or, failing that, to the context.
func dockerfilePath(dir, dockerfile string) (string, error) {
	candidates := []string{filepath.Join(dir, "Dockerfile")}
	if dockerfile != "" {
		candidates = []string{dockerfile, filepath.Join(dir, dockerfile)}
	}
	for _, candidate := range candidates {
		if info, err := os.Stat(candidate); err == nil && !info.IsDir() {
			return filepath.Abs(candidate)
		}
	}
	return "", &InvalidError{Field: "Dockerfile", Value: candidates[0], Reason: "there is no such file"}
}
