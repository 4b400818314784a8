package memengine

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/distribution/reference"
	buildtypes "github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/image"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// NewImage returns an image with labels and, where its program has one, a health check.
// Images of different content have different IDs.
func NewImage(content string, labels map[string]string, healthcheck bool) image.InspectResponse {
	config := &dockerspec.DockerOCIImageConfig{}
	config.Labels = labels
	if healthcheck {
		config.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"CMD", "/program", "check"}}
	}
	return image.InspectResponse{ID: fmt.Sprintf("sha256:%064x", content), Config: config}
}

// Tag gives the engine an image under a name; an older one of the name loses it.
func (e *Engine) Tag(ref string, i image.InspectResponse) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.images[normalize(ref)] = i
}

// Offer puts an image into the registry that pulls are answered from.
func (e *Engine) Offer(ref string, i image.InspectResponse) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.registry[normalize(ref)] = i
}

// Builds sets what builds bring: an image or, if failure is not empty, that error.
func (e *Engine) Builds(i image.InspectResponse, failure string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.built, e.buildFails = i, failure
}

func normalize(ref string) string {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return ref
	}
	return named.String()
}

func (e *Engine) imageByID(id string) image.InspectResponse {
	for _, i := range e.images {
		if i.ID == id {
			return i
		}
	}
	return image.InspectResponse{}
}

func (e *Engine) inspectImage(ref string) (image.InspectResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i, ok := e.images[normalize(ref)]; ok {
		return i, nil
	}
	if e.release < Docker28 {
		return image.InspectResponse{}, notFound("no such image: %s: No such image: %s", ref, ref)
	}
	return image.InspectResponse{}, notFound("No such image: %s", ref)
}

func (e *Engine) pullImage(ref string) (io.ReadCloser, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, ok := e.registry[normalize(ref)]
	if !ok {
		name, _, _ := strings.Cut(ref, ":")
		return nil, notFound("pull access denied for %s, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", name)
	}
	e.images[normalize(ref)] = i
	return stream(map[string]any{"status": "Pulling from " + ref}, map[string]any{"status": "Status: Downloaded newer image for " + ref}), nil
}

// buildImage is the classic builder. It wants a context with the Dockerfile in it.
func (e *Engine) buildImage(body io.Reader, options buildtypes.ImageBuildOptions) (buildtypes.ImageBuildResponse, error) {
	if err := findDockerfile(body, options.Dockerfile); err != nil {
		return buildtypes.ImageBuildResponse{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.buildFails != "" {
		return buildtypes.ImageBuildResponse{Body: stream(
			map[string]any{"stream": "Step 1/1 : FROM scratch\n"},
			map[string]any{"error": e.buildFails, "errorDetail": map[string]any{"message": e.buildFails}},
		)}, nil
	}
	for _, tag := range options.Tags {
		e.images[normalize(tag)] = e.built
	}
	return buildtypes.ImageBuildResponse{Body: stream(
		map[string]any{"stream": "Step 1/1 : FROM scratch\n"},
		map[string]any{"aux": map[string]any{"ID": e.built.ID}},
		map[string]any{"stream": "Successfully built\n"},
	)}, nil
}

func findDockerfile(body io.Reader, name string) error {
	archive := tar.NewReader(body)
	found := false
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Internal("%v", err)
		}
		found = found || header.Name == name
	}
	if !found {
		return invalid("Cannot locate specified Dockerfile: %s", name)
	}
	return nil
}

func stream(messages ...map[string]any) io.ReadCloser {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, message := range messages {
		_ = encoder.Encode(message)
	}
	return io.NopCloser(&text)
}
