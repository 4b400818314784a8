// Package sidecars holds the default bundle as a build context: what an engine
// needs to build the image bot-bottle-sidecars without pulling anything.
//
// The image's binary comes from cmd/bottle-sidecars. It is compiled for Linux by
// scripts/build-bundle, which make runs before it compiles the plugin, and
// embedded here compressed.
package sidecars

import (
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Labels of a bundle's image, by which it says what up is to do with it. Whoever
// reads them knows them by name and does not import this package.
const (
	// LabelDaemons are the daemons to start when the caller names none, in
	// order, separated by commas: "egress,pipelock".
	LabelDaemons = "bot-bottle.daemons"

	// LabelPorts are the container ports to publish when the caller names none,
	// each with its protocol, separated by commas: "3128/tcp,9418/tcp".
	LabelPorts = "bot-bottle.ports"

	// LabelEnvPrefix begins the labels that say which port serves which
	// variable of the guest: "bot-bottle.env.HTTPS_PROXY" is "3128/tcp".
	LabelEnvPrefix = "bot-bottle.env."

	// LabelReadyLog is a text that the bundle logs when all its daemons are ready.
	LabelReadyLog = "bot-bottle.ready-log"
)

// ErrNoBinary is returned where the plugin was compiled without the binaries of
// the bundle.
var ErrNoBinary = errors.New("this docker-bottle was compiled without the default bundle: compile it with make")

// UnsupportedArchError reports an architecture for which there is no default
// bundle.
type UnsupportedArchError struct {
	Arch      string
	Supported []string
}

func (e *UnsupportedArchError) Error() string {
	return fmt.Sprintf("no default bundle for the architecture %q, only for %s", e.Arch, strings.Join(e.Supported, " and "))
}

//go:embed context
var embedded embed.FS

const binaryName = "bottle-sidecars"

// BuildContext returns the build context for an engine of the given
// architecture, in Go's words (amd64, arm64) or the kernel's (x86_64, aarch64):
// the files Dockerfile and bottle-sidecars. Every call for an architecture
// returns the same bytes, modes and times. The error is an
// *[UnsupportedArchError] or wraps [ErrNoBinary].
func BuildContext(arch string) (fs.FS, error) {
	return buildContext(embedded, arch)
}

func buildContext(source fs.FS, arch string) (fs.FS, error) {
	goarch, err := normalArch(arch)
	if err != nil {
		return nil, err
	}
	dockerfile, err := fs.ReadFile(source, "context/Dockerfile")
	if err != nil {
		return nil, fmt.Errorf("default bundle: %w", err)
	}
	binary, err := readGzip(source, "context/"+binaryName+"-linux-"+goarch+".gz")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoBinary
	}
	if err != nil {
		return nil, fmt.Errorf("default bundle for %s: %w", goarch, err)
	}
	return fileSet{
		{name: "Dockerfile", mode: 0o644, data: dockerfile},
		{name: binaryName, mode: 0o755, data: binary},
	}, nil
}

func normalArch(arch string) (string, error) {
	switch arch {
	case "amd64", "x86_64":
		return "amd64", nil
	case "arm64", "aarch64":
		return "arm64", nil
	}
	return "", &UnsupportedArchError{Arch: arch, Supported: []string{"amd64", "arm64"}}
}

func readGzip(source fs.FS, name string) ([]byte, error) {
	f, err := source.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
