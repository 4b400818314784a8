package bundle

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
)

// IsLocal reports whether an engine's address, such as a context's endpoint, is on this
// machine and shares its file system: a named pipe, or a Unix socket whose other end is a
// process that this one can see. A socket that was mounted into the container in which
// this process runs has its other end elsewhere.
func IsLocal(daemonHost string) bool {
	address, err := url.Parse(daemonHost)
	if err != nil {
		return false
	}
	return address.Scheme == "npipe" || address.Scheme == "unix" && isPeerVisible(address.Path)
}

// checkSources refuses bind sources that do not exist, which the engine would make as
// directories that belong to root.
func (l *Lifecycle) checkSources(volumes []Volume) error {
	if !l.Local {
		return nil
	}
	for _, volume := range volumes {
		if _, err := os.Stat(volume.Source); errors.Is(err, fs.ErrNotExist) {
			return &InvalidError{Field: "volume", Value: volume.bind(), Reason: "bind source path does not exist: " + volume.Source}
		}
	}
	return nil
}
