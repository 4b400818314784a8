package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/pkg/jsonmessage"
)

// PullPolicy says when an image is fetched from its registry, in the words of docker run.
type PullPolicy string

const (
	PullMissing PullPolicy = "missing" // when the engine does not have it; the default
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// ParsePullPolicy reads one of always, missing and never; "" is missing. The error is an
// [*InvalidError].
func ParsePullPolicy(s string) (PullPolicy, error) {
	switch policy := PullPolicy(s); policy {
	case "":
		return PullMissing, nil
	case PullMissing, PullAlways, PullNever:
		return policy, nil
	}
	return "", &InvalidError{Field: "pull policy", Value: s, Reason: "it is one of always, missing and never"}
}

// EnsureImage makes an image exist on the engine and returns it. An image of the local
// repository bot-bottle-sidecars is never pulled: [DefaultImage] is built from
// [Lifecycle.BuildContext] when it is missing, or with [PullAlways] in any case; others
// of that repository have to be there. Errors: [*InvalidError] for a reference that can't
// be parsed, a not-found error where the policy or the registry leaves the image missing.
func (l *Lifecycle) EnsureImage(ctx context.Context, ref string, policy PullPolicy) (image.InspectResponse, error) {
	if err := checkImage(ref); err != nil {
		return image.InspectResponse{}, err
	}
	found, err := l.Engine.ImageInspect(ctx, ref)
	if err != nil && !errdefs.IsNotFound(err) {
		return image.InspectResponse{}, fmt.Errorf("inspect image %s: %w", ref, err)
	}
	return l.provideImage(ctx, "", ref, policy, found, err)
}

// provideImage goes on from the answer to an inspection of the image, found or notFound.
func (l *Lifecycle) provideImage(ctx context.Context, slug, ref string, policy PullPolicy, found image.InspectResponse, notFound error) (image.InspectResponse, error) {
	switch {
	case notFound == nil && policy != PullAlways:
		return found, nil
	case policy == PullNever:
		return found, fmt.Errorf("image %s: %w", ref, notFound)
	}
	// Bottles that come up together share one build or pull.
	_, err, _ := l.images.Do(ref, func() (any, error) {
		return nil, l.obtainImage(ctx, slug, ref, notFound)
	})
	if err != nil {
		return found, err
	}
	found, err = l.Engine.ImageInspect(ctx, ref)
	if err != nil {
		return found, fmt.Errorf("inspect image %s: %w", ref, err)
	}
	return found, nil
}

func (l *Lifecycle) obtainImage(ctx context.Context, slug, ref string, notFound error) error {
	switch isLocal, isDefault := classifyImage(ref); {
	case isDefault && l.BuildContext == nil:
		return fmt.Errorf("image %s is missing and no build context of it is at hand: %w", ref, errdefs.ErrNotFound)
	case isDefault:
		options, err := l.defaultBuild(ctx)
		if err != nil {
			return err
		}
		options.Tags = []string{ref}
		_, err = l.build(ctx, slug, options)
		return err
	case isLocal && notFound != nil:
		return fmt.Errorf("image %s is local and is never pulled; build it with: docker bottle build --tag %s CONTEXT: %w", ref, ref, notFound)
	case isLocal:
		return nil
	}
	step := Step{Slug: slug, Action: "Pull image", Object: ref}
	return l.step(step, func() error { return l.pull(ctx, step) })
}

// defaultBuild returns the build of the default bundle for the engine's architecture.
func (l *Lifecycle) defaultBuild(ctx context.Context) (BuildOptions, error) {
	if l.BuildContext == nil {
		return BuildOptions{}, errors.New("no build context of the default bundle is at hand")
	}
	version, err := l.Engine.ServerVersion(ctx)
	if err != nil {
		return BuildOptions{}, fmt.Errorf("ask the engine for its architecture: %w", err)
	}
	files, err := l.BuildContext(version.Arch)
	if err != nil {
		return BuildOptions{}, fmt.Errorf("build context of the default bundle: %w", err)
	}
	return BuildOptions{Files: files}, nil
}

func (l *Lifecycle) pull(ctx context.Context, step Step) error {
	options := image.PullOptions{}
	if l.RegistryAuth != nil {
		auth, err := l.RegistryAuth(ctx, step.Object)
		if err != nil {
			return fmt.Errorf("credentials for image %s: %w", step.Object, err)
		}
		options.RegistryAuth = auth
	}
	body, err := l.Engine.ImagePull(ctx, step.Object, options)
	if err != nil {
		return fmt.Errorf("pull image %s: %w", step.Object, err)
	}
	defer body.Close()
	decoder := json.NewDecoder(body)
	for {
		var message jsonmessage.JSONMessage
		if err := decoder.Decode(&message); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("pull image %s: read the engine's progress: %w", step.Object, err)
		}
		if message.Error != nil {
			return fmt.Errorf("pull image %s: %w", step.Object, message.Error)
		}
		l.emit(PullStatus{Step: step, Message: message})
	}
}

// checkImage refuses what is no image reference.
func checkImage(ref string) error {
	if _, err := reference.ParseDockerRef(ref); err != nil {
		return &InvalidError{Field: "image", Value: ref, Reason: err.Error()}
	}
	return nil
}

// classifyImage says whether ref belongs to the repository that no registry has, and
// whether it is its default image.
func classifyImage(ref string) (isLocal, isDefault bool) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return false, false
	}
	standard, err := reference.ParseDockerRef(DefaultImage)
	if err != nil {
		return false, false
	}
	return named.Name() == standard.Name(), named.String() == standard.String()
}
