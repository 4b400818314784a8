//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// selfPath starts the supervisor's own executable again, whatever its path.
const selfPath = "/proc/self/exe"

// command is how a daemon is started and checked.
type command struct {
	name    string
	builtin bool
	path    string
	argv    []string

	// health is the argv of the executable that checks it; empty for a built-in
	// and where there is none.
	health []string

	// env are entries of the environment, as os.Environ returns them, that take
	// precedence over the supervisor's own, for the daemon and its health check.
	env []string
}

// findCommands returns the commands of the named daemons, which are executables
// in dir or built in, with what the files beside them say. The error for names
// that are neither is an *[UnknownDaemonError], that for a file a *[FileError].
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
		inDir := filepath.Join(dir, name)
		switch _, builtin := builtins[name]; {
		case executables[name]:
			c.path = inDir
			if c.argv, err = readArgv(inDir); err != nil {
				return nil, err
			}
			if executables[name+healthSuffix] {
				if c.health, err = readArgv(inDir + healthSuffix); err != nil {
					return nil, err
				}
			}
		case builtin:
			c.builtin = true
			c.path = selfPath
			c.argv = []string{"bottle-sidecars", "daemon", name}
			if _, err := os.Lstat(inDir + argsSuffix); err == nil {
				return nil, &FileError{Path: inDir + argsSuffix, Reason: "a built-in daemon takes no arguments"}
			}
		default:
			unknown = append(unknown, name)
			continue
		}
		if c.env, err = readEnv(inDir + envSuffix); err != nil {
			return nil, err
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

// readArgv returns the argv of the executable at path, whose arguments are the
// lines of the file beside it, if there is one.
func readArgv(path string) ([]string, error) {
	argv := []string{path}
	lines, err := readLines(path + argsSuffix)
	for _, line := range lines {
		argv = append(argv, line.text)
	}
	return argv, err
}

// readEnv returns the entries of a file of variables, which need not be there.
func readEnv(path string) ([]string, error) {
	lines, err := readLines(path)
	if err != nil {
		return nil, err
	}
	var entries, names []string
	for _, line := range lines {
		// What the line says is not repeated: it may be a secret.
		name, _, found := strings.Cut(line.text, "=")
		switch {
		case !found:
			return nil, &FileError{Path: path, Line: line.number, Reason: "it is not KEY=VALUE"}
		case name == "" || strings.ContainsAny(name, " \t"):
			return nil, &FileError{Path: path, Line: line.number, Reason: "the name of a variable is not empty and has no spaces"}
		case slices.Contains(names, name):
			return nil, &FileError{Path: path, Line: line.number, Reason: name + " is set a second time"}
		}
		entries, names = append(entries, line.text), append(names, name)
	}
	return entries, nil
}

// maxFileSize bounds a file beside an executable, in bytes.
const maxFileSize = 64 << 10

// line is one line of a file, without its end.
type line struct {
	number int // from 1
	text   string
}

// readLines returns the lines of a file but those that are blank or begin with
// "#". A file that is not there has none.
func readLines(path string) ([]line, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err == nil && !info.Mode().IsRegular():
		return nil, &FileError{Path: path, Reason: "it is not a regular file"}
	case err != nil:
		return nil, unreadable(path, err)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if len(content) > maxFileSize {
		return nil, &FileError{Path: path, Reason: fmt.Sprintf("it is larger than %d bytes", maxFileSize)}
	}
	var lines []line
	number := 0
	for text := range strings.Lines(string(content)) {
		number++
		text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
		if strings.ContainsRune(text, 0) {
			return nil, &FileError{Path: path, Line: number, Reason: "it has a NUL byte"}
		}
		if strings.TrimSpace(text) != "" && !strings.HasPrefix(text, "#") {
			lines = append(lines, line{number, text})
		}
	}
	return lines, nil
}

// unreadable leaves out the path that errors of package os repeat.
func unreadable(path string, err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return &FileError{Path: path, Reason: "it cannot be read: " + err.Error()}
}

// withEntries returns environ with entries in place of those of their names.
func withEntries(environ, entries []string) []string {
	names := make(map[string]bool, len(entries))
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry, "=")
		names[name] = true
	}
	merged := slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return names[name]
	})
	return append(merged, entries...)
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
