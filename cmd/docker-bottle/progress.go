package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/docker/cli/cli/streams"
	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/opencontainers/go-digest"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
)

const progressHelp = `Type of progress output: "auto", "plain", "tty", "quiet"`

var progressModes = []string{"auto", "plain", "tty", "quiet"}

// progress draws events in the way that docker build draws its own, so that the build of
// an image and what comes after it are one picture.
type progress struct {
	display progressui.Display
	out     io.Writer

	mu       sync.Mutex
	statuses chan *buildkit.SolveStatus // made at the first event: where nothing is done, nothing is drawn
	drawn    chan struct{}
	vertices map[bundle.Step]*buildkit.Vertex
	steps    int
	warnings []string
	builds   bool // a builder reports its own steps
}

func newProgress(out *streams.Out, mode string, quiet bool) (*progress, error) {
	if quiet {
		mode = string(progressui.QuietMode)
	}
	var file io.Writer = out
	// The display needs the terminal itself, which the CLI's stream hides.
	if out.IsTerminal() && out.FD() == os.Stderr.Fd() {
		file = os.Stderr
	}
	switch mode {
	case "auto", "plain", "tty", "quiet":
	default:
		return nil, &bundle.InvalidError{Field: "progress", Value: mode, Reason: "it is one of auto, plain, tty and quiet"}
	}
	display, err := progressui.NewDisplay(file, progressui.DisplayMode(mode), progressui.WithPhase("Working"))
	if err != nil {
		return nil, err
	}
	return &progress{display: display, out: out, vertices: map[bundle.Step]*buildkit.Vertex{}}, nil
}

// during runs do and returns when all that it reported is drawn.
func (p *progress) during(do func() error) error {
	err := do()
	p.finish()
	return err
}

// finish ends the drawing, and prints the warnings, which would have torn a live picture.
func (p *progress) finish() {
	p.mu.Lock()
	statuses, drawn, warnings := p.statuses, p.drawn, p.warnings
	p.statuses, p.warnings = nil, nil
	p.mu.Unlock()
	if statuses != nil {
		close(statuses)
		<-drawn
	}
	for _, warning := range warnings {
		_, _ = fmt.Fprintln(p.out, warning)
	}
}

// errOut is where messages may be printed: the picture is finished before the first.
func (p *progress) errOut() io.Writer { return writerAfter{p} }

type writerAfter struct{ progress *progress }

func (w writerAfter) Write(b []byte) (int, error) {
	w.progress.finish()
	return w.progress.out.Write(b)
}

// report takes an event of any bottle.
func (p *progress) report(event bundle.Event) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch event := event.(type) {
	case bundle.StepStarted:
		p.steps++
		p.vertices[event.Step] = &buildkit.Vertex{
			Digest:  digest.FromString(fmt.Sprintf("%d %s %s", p.steps, event.Step.Slug, event.Step)),
			Name:    event.Step.String(),
			Started: &now,
		}
		if event.Step.Action != bundle.ActionBuild {
			p.draw(&buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{p.vertices[event.Step]}})
		}
	case bundle.StepDone:
		p.complete(event, now)
	case bundle.BuildStatus:
		p.builds = true
		p.draw(event.Status)
	case bundle.BuildOutput:
		if vertex := p.vertices[event.Step]; vertex != nil {
			p.draw(&buildkit.SolveStatus{
				Vertexes: []*buildkit.Vertex{vertex},
				Logs:     []*buildkit.VertexLog{{Vertex: vertex.Digest, Stream: 1, Data: []byte(event.Text), Timestamp: now}},
			})
		}
	case bundle.PullStatus:
		if vertex := p.vertices[event.Step]; vertex != nil && event.Message.ID != "" {
			status := &buildkit.VertexStatus{ID: event.Message.ID + " " + event.Message.Status, Vertex: vertex.Digest, Timestamp: now, Started: vertex.Started}
			if event.Message.Progress != nil {
				status.Current, status.Total = event.Message.Progress.Current, event.Message.Progress.Total
			}
			p.draw(&buildkit.SolveStatus{Statuses: []*buildkit.VertexStatus{status}})
		}
	case bundle.Warning:
		text := "WARNING: " + event.Text
		if event.Slug != "" {
			text = fmt.Sprintf("WARNING: %s: %s", event.Slug, event.Text)
		}
		p.warnings = append(p.warnings, text)
	}
}

// complete ends a step's vertex. A build that BuildKit reports needs none of its own.
func (p *progress) complete(event bundle.StepDone, now time.Time) {
	vertex := p.vertices[event.Step]
	delete(p.vertices, event.Step)
	if vertex == nil || event.Step.Action == bundle.ActionBuild && p.builds {
		return
	}
	done := *vertex
	done.Completed = &now
	if event.Err != nil {
		done.Error = "failed" // the command's own error says why
	}
	p.draw(&buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{&done}})
}

func (p *progress) draw(status *buildkit.SolveStatus) {
	if p.statuses == nil {
		p.statuses, p.drawn = make(chan *buildkit.SolveStatus), make(chan struct{})
		go func(statuses chan *buildkit.SolveStatus, drawn chan struct{}) {
			defer close(drawn)
			// The picture is finished even when the work is cancelled.
			_, _ = p.display.UpdateFrom(context.Background(), statuses)
		}(p.statuses, p.drawn)
	}
	p.statuses <- status
}
