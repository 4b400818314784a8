//go:build linux

package supervisor

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// selfPath starts the supervisor's own executable again, whatever its path.
const selfPath = "/proc/self/exe"

// command is how a daemon is started and checked.
type command struct {
	name    string
	builtin bool
	path    string
	argv    []string

	// health is the path of the executable that checks it; empty for a built-in
	// and where there is none.
	health string
}

// findCommands returns the commands of the named daemons, which are executables
// in dir or built in. The error for names that are neither is an
// *[UnknownDaemonError].
func findCommands(names []string, builtins map[string]Factory, dir string) ([]command, error) {
	executables, err := findExecutables(dir)
	if err != nil {
		return nil, err
	}
	var (
		commands []command
		unknown  []string
	)
	for _, name := range names {
		c := command{name: name}
		switch _, builtin := builtins[name]; {
		case executables[name]:
			c.path = filepath.Join(dir, name)
			c.argv = []string{c.path}
			if executables[name+healthSuffix] {
				c.health = c.path + healthSuffix
			}
		case builtin:
			c.builtin = true
			c.path = selfPath
			c.argv = []string{"bottle-sidecars", "daemon", name}
		default:
			unknown = append(unknown, name)
		}
		commands = append(commands, c)
	}
	if len(unknown) > 0 {
		return nil, &UnknownDaemonError{Names: unknown, Known: known(builtins, executables)}
	}
	return commands, nil
}

// findExecutables returns the names of the executable files in dir, which need
// not exist.
func findExecutables(dir string) (map[string]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	executables := make(map[string]bool)
	for _, entry := range entries {
		// Stat follows the symbolic links that images are fond of.
		info, err := os.Stat(filepath.Join(dir, entry.Name()))
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			executables[entry.Name()] = true
		}
	}
	return executables, nil
}

func known(builtins map[string]Factory, executables map[string]bool) []string {
	names := slices.Collect(maps.Keys(builtins))
	for name := range executables {
		if badName(name) == "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
