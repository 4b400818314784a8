package bundle

import (
	"github.com/docker/docker/api/types/container"
)

// state is what a look at the engine found of a bundle's container. docs/states.md lists
// the states and what up and down do in each.
type state string

const (
	stateAbsent    state = "absent"    // there is none
	stateForeign   state = "foreign"   // it has the name and is no bundle
	stateRemoving  state = "removing"  // the engine is removing it
	stateCreated   state = "created"   // as asked for, never started
	stateRunning   state = "running"   // as asked for, or being restarted by the engine
	statePaused    state = "paused"    // as asked for
	stateStopped   state = "stopped"   // exited or dead, whatever was asked for
	stateChanged   state = "changed"   // made from another spec or another image
	stateMisplaced state = "misplaced" // not in the bottle's network, or not at its address
)

// action is what up does about a state.
type action string

const (
	actionCreate  action = "create"  // create it and start it
	actionStart   action = "start"   // start the one that is there
	actionUnpause action = "unpause" // let it go on
	actionReplace action = "replace" // remove it, then create
	actionAwait   action = "await"   // wait until it is gone, then create
	actionKeep    action = "keep"    // nothing is to be done
	actionRefuse  action = "refuse"  // end with an error
)

// classify names the state of the container that was found. Under RecreateNever, one made
// from another spec counts as asked for.
func classify(r request, found *container.InspectResponse, place *placement, recreate Recreate) state {
	switch {
	case found == nil:
		return stateAbsent
	case found.State.Status == container.StateRemoving:
		return stateRemoving
	case !isBundle(*found, r.Slug):
		return stateForeign
	case found.State.Status == container.StateExited, found.State.Status == container.StateDead:
		return stateStopped
	case recreate != RecreateNever && !r.matches(*found):
		return stateChanged
	case place == nil || !isPlaced(*found, r.Slug, *place):
		return stateMisplaced
	case found.State.Status == container.StateCreated:
		return stateCreated
	case found.State.Paused:
		return statePaused
	}
	return stateRunning
}

// decide says what up does about a state.
func decide(s state, recreate Recreate) action {
	switch s {
	case stateAbsent:
		return actionCreate
	case stateForeign:
		return actionRefuse
	case stateRemoving:
		return actionAwait
	case stateStopped, stateChanged:
		return actionReplace
	case stateMisplaced:
		if recreate == RecreateNever {
			return actionRefuse
		}
		return actionReplace
	}
	if recreate == RecreateAlways {
		return actionReplace
	}
	switch s {
	case stateCreated:
		return actionStart
	case statePaused:
		return actionUnpause
	}
	return actionKeep
}
