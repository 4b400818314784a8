package bundle

import (
	"errors"
	"fmt"

	"github.com/docker/docker/pkg/jsonmessage"
	buildkit "github.com/moby/buildkit/client"
)

// Event is one report of progress: a [StepStarted], [StepDone], [Warning], [BuildStatus]
// or [PullStatus]. No event carries the value of an environment variable or a secret.
type Event interface{ event() }

// Step is one change made to the engine for one bottle, or one wait.
type Step struct {
	Slug   string // "" for steps that serve no bottle, such as a build by hand
	Action string // "Create network", "Start container", …
	Object string // the name of what is changed
}

// ActionBuild is the action of the step that a [BuildStatus] or a [BuildOutput] belongs to.
const ActionBuild = "Build image"

func (s Step) String() string { return fmt.Sprintf("%s %s", s.Action, s.Object) }

// StepStarted says that a step begins. A [StepDone] of the same Step follows.
type StepStarted struct{ Step Step }

// StepDone says that a step ended, well where Err is nil.
type StepDone struct {
	Step Step
	Err  error
}

// Warning is something the caller should know that does not stop the call.
type Warning struct {
	Slug string
	Text string
}

// BuildStatus is a part of BuildKit's own progress of an image build.
type BuildStatus struct {
	Step   Step
	Status *buildkit.SolveStatus
}

// BuildOutput is text from an engine's classic builder.
type BuildOutput struct {
	Step Step
	Text string
}

// PullStatus is a part of the engine's progress of an image pull.
type PullStatus struct {
	Step    Step
	Message jsonmessage.JSONMessage
}

func (StepStarted) event() {}
func (StepDone) event()    {}
func (Warning) event()     {}
func (BuildStatus) event() {}
func (BuildOutput) event() {}
func (PullStatus) event()  {}

func (l *Lifecycle) emit(event Event) {
	if l.Progress != nil {
		l.Progress(event)
	}
}

func (l *Lifecycle) warn(slug, format string, args ...any) {
	l.emit(Warning{Slug: slug, Text: fmt.Sprintf(format, args...)})
}

// step runs do between the two events of a step. That another client was quicker is no
// failure of a step: it is looked into and tried again.
func (l *Lifecycle) step(step Step, do func() error) error {
	l.emit(StepStarted{Step: step})
	err := do()
	var contended *contention
	if errors.As(err, &contended) {
		l.emit(StepDone{Step: step})
	} else {
		l.emit(StepDone{Step: step, Err: err})
	}
	return err
}
