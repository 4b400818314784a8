//go:build !linux

package bundle

// isPeerVisible takes it for granted: Docker Desktop shares the host's files, and this
// process does not run in a container of its engine.
func isPeerVisible(string) bool { return true }
