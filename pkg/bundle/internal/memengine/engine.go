// Package memengine is a Docker engine in memory, for tests: it has networks, addresses,
// containers and images, and refuses what Docker refuses, with the same classes of errors
// and the same texts. The contract tests of package bundle run the same table against it
// and against real engines.
//
// Everything it waits for it waits for on package time's clock, so that in a bubble of
// testing/synctest it takes no time at all. An [Engine] is the daemon; a [Client] is one
// connection to it, with delays and faults of its own.
package memengine

import (
	"fmt"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/image"
)

// Release is a version of the engine whose behaviour is copied where versions differ.
type Release int

const (
	// Docker20 is Docker 20.10: it lets two clients that come at one moment create two
	// networks of one name, and checks pinned addresses when a container starts.
	Docker20 Release = 20
	// Docker28 is Docker 25 to 28: names of networks are unique, and pinned addresses are
	// checked when a container is created.
	Docker28 Release = 28
	// Docker29 is Engine 29, which also pins addresses in subnets that it chose itself.
	Docker29 Release = 29
)

// Pace is how long an engine takes for what is not done at once.
type Pace struct {
	// NetworkCreate passes between the steps of creating a network on [Docker20]: the
	// look at the names, the reservation of the subnet, and the network's appearance.
	NetworkCreate time.Duration
	// Removal passes while a container is being removed.
	Removal time.Duration
	// NameRelease passes between a container's disappearance and its name being free.
	NameRelease time.Duration
}

// Engine is an engine in memory. Create it with [New]; in a bubble of testing/synctest,
// inside of the bubble.
type Engine struct {
	release Release
	pace    Pace

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced at every change
	serial     int
	pools      []*pool // reserved subnets, those of networks that are not yet visible included
	networks   []*bridge
	containers map[string]*box
	names      map[string]string // container names in use, with their holders' IDs
	images     map[string]image.InspectResponse
	registry   map[string]image.InspectResponse
	buildFails string
	built      image.InspectResponse
	history    []events.Message
	life       chan struct{} // closed when the engine restarts
	background sync.WaitGroup
}

// New returns an engine without networks, containers and images.
func New(release Release, pace Pace) *Engine {
	return &Engine{
		release:    release,
		pace:       pace,
		changed:    make(chan struct{}),
		containers: make(map[string]*box),
		names:      make(map[string]string),
		images:     make(map[string]image.InspectResponse),
		registry:   make(map[string]image.InspectResponse),
		life:       make(chan struct{}),
	}
}

// Restart ends every connection that waits for something and every program. As after a
// crash of the host, auto-removed containers are gone afterwards and others have exited.
func (e *Engine) Restart() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.life)
	e.life = make(chan struct{})
	for _, c := range e.containers {
		if c.process != nil {
			e.exit(c, exitKilled)
		}
		if c.host.AutoRemove {
			e.forget(c)
		}
	}
	e.broadcast()
}

// Close restarts the engine and waits for what goes on in the background. A bubble of
// testing/synctest ends well only after it.
func (e *Engine) Close() {
	e.Restart()
	e.background.Wait()
}

// broadcast wakes everybody who waits for a change. The lock is held.
func (e *Engine) broadcast() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// nextID returns an object's ID. IDs are in no order, as the engine's are not.
func (e *Engine) nextID() string {
	e.serial++
	return fmt.Sprintf("%016x%048x", uint64(e.serial)*0x9e3779b97f4a7c15, e.serial)
}
