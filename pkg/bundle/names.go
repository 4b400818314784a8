package bundle

import (
	"fmt"
	"unicode/utf8"
)

// The names a bottle's objects have on the engine. They are facts that other tools rely
// on: a dashboard finds bundles by the containers' prefix, a guest's allowlist is written
// from the slug alone.
const (
	networkPrefix   = "bot-bottle-bundle-"
	containerPrefix = "bot-bottle-sidecars-"

	// DefaultImage is the bundle image used when a [Spec] names none. It is local: it is
	// built, never pulled.
	DefaultImage = "bot-bottle-sidecars:latest"

	// DaemonsVariable is the environment variable that tells a bundle which of its
	// daemons to start, as names separated by commas.
	DaemonsVariable = "BOT_BOTTLE_SIDECAR_DAEMONS"
)

// Labels set on a bottle's network and container, and read from its image.
const (
	// LabelSlug is on every object made for a bottle; its value is the slug.
	LabelSlug = "bot-bottle.slug"
	// LabelSpec is on the container: a digest of the spec it was made from, see digest.go.
	LabelSpec = "bot-bottle.spec"
	// LabelImageID is on the container: the ID of the image it was made from, as the
	// engine reported it then. The container's own Image field holds another digest on
	// engines with containerd's image store.
	LabelImageID = "bot-bottle.image-id"
	// LabelHostIP is on the container: the host address its ports are published on
	// unless a port names one of its own.
	LabelHostIP = "bot-bottle.host-ip"

	// LabelDaemons is read from an image: the daemons it has, separated by commas.
	LabelDaemons = "bot-bottle.daemons"
	// LabelPorts is read from an image: the container ports to publish, such as
	// "3128/tcp,53/udp".
	LabelPorts = "bot-bottle.ports"
	// LabelEnvPrefix starts the labels of an image that say which container port serves
	// which of a guest's variables: "bot-bottle.env.HTTPS_PROXY=3128/tcp".
	LabelEnvPrefix = "bot-bottle.env."
	// LabelReadyLog is read from an image: a text that the bundle logs when all its
	// daemons are ready.
	LabelReadyLog = "bot-bottle.ready-log"
)

// maxSlugLength keeps the names below every limit that a name meets on its way: 63 octets
// is what a DNS label may have (RFC 1035, section 2.3.4).
const maxSlugLength = 63

// NetworkName returns the name of a bottle's network.
func NetworkName(slug string) string { return networkPrefix + slug }

// ContainerName returns the name of a bottle's bundle container.
func ContainerName(slug string) string { return containerPrefix + slug }

// CheckSlug returns nil for a usable slug and an [*InvalidError] otherwise. A slug is
// what the engine accepts in an object's name: it starts with a letter or a digit of
// ASCII, goes on with those, '_', '.' and '-', and has at most 63 characters.
func CheckSlug(slug string) error {
	if slug == "" {
		return &InvalidError{Field: "slug", Value: slug, Reason: "it is empty"}
	}
	for i, r := range slug {
		if isAlphanumeric(r) {
			continue
		}
		position := utf8.RuneCountInString(slug[:i]) + 1
		if i == 0 {
			return &InvalidError{Field: "slug", Value: slug,
				Reason: fmt.Sprintf("character 1 is %q: a slug starts with a letter or a digit", r)}
		}
		if r != '_' && r != '.' && r != '-' {
			return &InvalidError{Field: "slug", Value: slug,
				Reason: fmt.Sprintf("character %d is %q: only letters, digits, '_', '.' and '-' are allowed", position, r)}
		}
	}
	if len(slug) > maxSlugLength {
		return &InvalidError{Field: "slug", Value: slug,
			Reason: fmt.Sprintf("it has %d characters, at most %d are allowed", len(slug), maxSlugLength)}
	}
	return nil
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}
