package sidecars

import (
	"bytes"
	"io"
	"io/fs"
	"slices"
	"time"
)

// fileSet is a read-only file system of regular files in one directory, sorted
// by name. All of them have the same time.
type fileSet []file

type file struct {
	name string
	mode fs.FileMode // permission bits
	data []byte
}

// Open implements fs.FS.
func (s fileSet) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return &openDir{rest: s}, nil
	}
	i := slices.IndexFunc(s, func(f file) bool { return f.name == name })
	if i < 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &openFile{Reader: bytes.NewReader(s[i].data), file: s[i]}, nil
}

// modTime is that of every file: no earlier than what any archive format can
// hold, and the same in every build.
func modTime() time.Time { return time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC) }

// file is its own fs.FileInfo.
func (f file) Name() string       { return f.name }
func (f file) Size() int64        { return int64(len(f.data)) }
func (f file) Mode() fs.FileMode  { return f.mode }
func (f file) ModTime() time.Time { return modTime() }
func (f file) IsDir() bool        { return false }
func (f file) Sys() any           { return nil }

type openFile struct {
	*bytes.Reader
	file file
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.file, nil }
func (f *openFile) Close() error               { return nil }

// openDir is the directory, with what ReadDir has not returned yet.
type openDir struct{ rest fileSet }

func (d *openDir) Stat() (fs.FileInfo, error) { return dirInfo{}, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: ".", Err: fs.ErrInvalid}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.rest) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.rest) {
		n = len(d.rest)
	}
	entries := make([]fs.DirEntry, n)
	for i, f := range d.rest[:n] {
		entries[i] = fs.FileInfoToDirEntry(f)
	}
	d.rest = d.rest[n:]
	return entries, nil
}

type dirInfo struct{}

func (dirInfo) Name() string       { return "." }
func (dirInfo) Size() int64        { return 0 }
func (dirInfo) Mode() fs.FileMode  { return fs.ModeDir | 0o755 }
func (dirInfo) ModTime() time.Time { return modTime() }
func (dirInfo) IsDir() bool        { return true }
func (dirInfo) Sys() any           { return nil }
