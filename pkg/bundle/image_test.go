package bundle

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
)

func TestEnsureImage(t *testing.T) {
	const present, missing = "present:1", "missing:1"
	local := strings.TrimSuffix(DefaultImage, "latest") + "dev"
	tests := []struct {
		name   string
		ref    string
		policy PullPolicy
		want   string // content of the image; "" for an error
		err    string
		asked  []string // what was asked of the engine besides inspections
	}{
		{name: "present", ref: present, policy: PullMissing, want: "old"},
		{name: "present, never pull", ref: present, policy: PullNever, want: "old"},
		{name: "present, always pull", ref: present, policy: PullAlways, want: "new", asked: []string{"ImagePull"}},
		{name: "missing", ref: missing, policy: PullMissing, want: "new", asked: []string{"ImagePull"}},
		{name: "missing, never pull", ref: missing, policy: PullNever, err: "image missing:1: "},
		{name: "missing everywhere", ref: "nowhere:1", policy: PullMissing, err: "pull image nowhere:1: ", asked: []string{"ImagePull"}},
		{name: "default", ref: DefaultImage, policy: PullMissing, want: "built", asked: []string{"ImageBuild"}},
		{name: "default, never pull", ref: DefaultImage, policy: PullNever, err: "image " + DefaultImage},
		{name: "another local one is never pulled", ref: local, policy: PullAlways, err: "is local and is never pulled"},
		{name: "no reference", ref: "Not A Reference", policy: PullMissing, err: "invalid image"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, memengine.Docker29, func(w *world) {
				engine := memengine.New(memengine.Docker29, testPace) // one without the default image
				defer engine.Close()
				client := engine.Client()
				engine.Tag(present, memengine.NewImage("old", nil, false))
				engine.Offer(present, memengine.NewImage("new", nil, false))
				engine.Offer(missing, memengine.NewImage("new", nil, false))
				engine.Builds(memengine.NewImage("built", nil, false), "")
				life := &Lifecycle{Engine: client, BuildContext: dockerfileOnly}
				found, err := life.EnsureImage(w.t.Context(), tt.ref, tt.policy)
				if tt.want == "" {
					if err == nil || !strings.Contains(err.Error(), tt.err) {
						w.t.Errorf("error is %v, want %q in it", err, tt.err)
					}
				} else if err != nil || found.ID != memengine.NewImage(tt.want, nil, false).ID {
					w.t.Errorf("image is %s, error %v", found.ID, err)
				}
				var asked []string
				for _, method := range []string{"ImageBuild", "ImagePull"} {
					if client.Counts()[method] > 0 {
						asked = append(asked, method)
					}
				}
				if diff := cmp.Diff(tt.asked, asked); diff != "" {
					w.t.Error(diff)
				}
			})
		})
	}
}

func dockerfileOnly(string) (fs.FS, error) {
	return fstest.MapFS{"Dockerfile": {Data: []byte("FROM scratch\n"), Mode: 0o644}}, nil
}

// Bottles that come up together build the image once.
func TestUpsShareABuild(t *testing.T) {
	inWorld(t, memengine.Docker29, func(w *world) {
		engine := memengine.New(memengine.Docker29, testPace)
		defer engine.Close()
		engine.Builds(memengine.NewImage("built", nil, false), "")
		client := engine.Client()
		client.Intercept = func(context.Context, memengine.Call) memengine.Weather { return memengine.Weather{Before: 1e6} }
		life := &Lifecycle{Engine: client, BuildContext: dockerfileOnly, LookupEnv: noEnv}
		var ups sync.WaitGroup
		for _, slug := range []string{"a", "b", "c", "d"} {
			ups.Go(func() {
				if _, err := life.Up(w.t.Context(), Spec{Slug: slug}, UpOptions{}); err != nil {
					w.t.Error(err)
				}
			})
		}
		ups.Wait()
		if n := client.Counts()["ImageBuild"]; n != 1 {
			w.t.Errorf("%d builds, want 1", n)
		}
	})
}

func TestBuildFailure(t *testing.T) {
	inWorld(t, memengine.Docker29, func(w *world) {
		w.engine.Builds(memengine.NewImage("built", nil, false), "COPY failed: no such file")
		_, err := w.life.Build(w.t.Context(), BuildOptions{Tags: []string{"mine:1"}, Files: fstest.MapFS{"Dockerfile": {Data: []byte("FROM scratch\n")}}})
		if err == nil || err.Error() != "build image mine:1: COPY failed: no such file" {
			w.t.Errorf("error is %v", err)
		}
		var output []string
		for _, e := range w.events {
			if o, ok := e.(BuildOutput); ok {
				output = append(output, o.Text)
			}
		}
		if diff := cmp.Diff([]string{"Step 1/1 : FROM scratch\n"}, output); diff != "" {
			w.t.Error(diff)
		}
	})
}

func TestBuildWithoutAContext(t *testing.T) {
	inWorld(t, memengine.Docker29, func(w *world) {
		_, err := w.life.Build(w.t.Context(), BuildOptions{Dir: "/nowhere/at/all"})
		var invalid *InvalidError
		if !errors.As(err, &invalid) || invalid.Field != "build context" {
			w.t.Errorf("error is %v", err)
		}
	})
}
