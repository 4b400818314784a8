package sidecars

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// source stands for what is embedded.
func source(t *testing.T) fstest.MapFS {
	t.Helper()
	compress := func(s string) *fstest.MapFile {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return &fstest.MapFile{Data: b.Bytes()}
	}
	return fstest.MapFS{
		"context/Dockerfile":                     {Data: []byte("FROM scratch\n")},
		"context/bottle-sidecars-linux-amd64.gz": compress("for amd64"),
		"context/bottle-sidecars-linux-arm64.gz": compress("for arm64"),
	}
}

func TestBuildContext(t *testing.T) {
	for arch, binary := range map[string]string{
		"amd64": "for amd64", "x86_64": "for amd64", "arm64": "for arm64", "aarch64": "for arm64",
	} {
		t.Run(arch, func(t *testing.T) {
			context, err := buildContext(source(t), arch)
			if err != nil {
				t.Fatal(err)
			}
			if err := fstest.TestFS(context, "Dockerfile", "bottle-sidecars"); err != nil {
				t.Error(err)
			}
			got := map[string]string{}
			err = fs.WalkDir(context, ".", func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				info, err := d.Info()
				if err != nil {
					return err
				}
				data, err := fs.ReadFile(context, path)
				got[path] = info.Mode().String() + " " + info.ModTime().String() + " " + string(data)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{
				"Dockerfile":      "-rw-r--r-- 1980-01-01 00:00:00 +0000 UTC FROM scratch\n",
				"bottle-sidecars": "-rwxr-xr-x 1980-01-01 00:00:00 +0000 UTC " + binary,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestBuildContextForAnotherArchitecture(t *testing.T) {
	for _, arch := range []string{"riscv64", "AMD64", "../amd64", ""} {
		_, err := BuildContext(arch)
		var unsupported *UnsupportedArchError
		if !errors.As(err, &unsupported) {
			t.Fatalf("%q: error %v", arch, err)
		}
		if diff := cmp.Diff(&UnsupportedArchError{arch, []string{"amd64", "arm64"}}, unsupported); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	const want = `no default bundle for the architecture "riscv64", only for amd64 and arm64`
	if _, err := BuildContext("riscv64"); err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestBuildContextWithoutTheBinary(t *testing.T) {
	s := source(t)
	delete(s, "context/bottle-sidecars-linux-arm64.gz")
	if _, err := buildContext(s, "arm64"); !errors.Is(err, ErrNoBinary) || !strings.Contains(err.Error(), "make") {
		t.Errorf("error %v", err)
	}
	if _, err := buildContext(s, "amd64"); err != nil {
		t.Errorf("the other architecture: %v", err)
	}
}

func TestBuildContextWithABrokenBinary(t *testing.T) {
	s := source(t)
	whole := s["context/bottle-sidecars-linux-amd64.gz"].Data
	for name, data := range map[string][]byte{"no gzip": []byte("x"), "cut": whole[:len(whole)-4]} {
		s["context/bottle-sidecars-linux-amd64.gz"].Data = data
		if _, err := buildContext(s, "amd64"); err == nil || errors.Is(err, ErrNoBinary) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestDockerfileSaysWhatTheLabelsAreCalled keeps the constants and the image
// together.
func TestDockerfileSaysWhatTheLabelsAreCalled(t *testing.T) {
	dockerfile, err := fs.ReadFile(embedded, "context/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		LabelDaemons + `="egress"`,
		LabelPorts + `="3128/tcp"`,
		LabelReadyLog + `="all daemons ready"`,
		LabelEnvPrefix + `HTTPS_PROXY="3128/tcp"`,
		LabelEnvPrefix + `HTTP_PROXY="3128/tcp"`,
	} {
		if !strings.Contains(string(dockerfile), want) {
			t.Errorf("the Dockerfile lacks %s", want)
		}
	}
}
