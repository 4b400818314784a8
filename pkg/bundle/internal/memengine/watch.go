package memengine

import (
	"bufio"
	"context"
	"io"
	"net"
	"slices"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/pkg/stdcopy"
)

// record adds an event to the history.
func (e *Engine) record(c *box, action events.Action, attributes ...string) {
	described := map[string]string{"name": c.name, "image": c.config.Image}
	for i := 0; i < len(attributes); i += 2 {
		described[attributes[i]] = attributes[i+1]
	}
	now := time.Now()
	e.history = append(e.history, events.Message{
		Type: events.ContainerEventType, Action: action, Time: now.Unix(), TimeNano: now.UnixNano(),
		Actor: events.Actor{ID: c.id, Attributes: described},
	})
	e.broadcast()
}

// await returns when done does, which is asked at every change and with the lock. It fails
// when ctx ends or the engine restarts.
func (e *Engine) await(ctx context.Context, done func() bool) error {
	for {
		e.mu.Lock()
		finished, changed, life := done(), e.changed, e.life
		e.mu.Unlock()
		if finished {
			return nil
		}
		select {
		case <-changed:
		case <-life:
			return io.ErrUnexpectedEOF
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *Engine) waitContainer(ctx context.Context, ref string, condition container.WaitCondition) (<-chan container.WaitResponse, <-chan error) {
	results, failures := make(chan container.WaitResponse), make(chan error, 1)
	e.mu.Lock()
	c := e.container(ref)
	runs := 0
	if c != nil {
		runs = c.runs
	}
	e.mu.Unlock()
	if c == nil {
		failures <- noContainer(ref)
		return results, failures
	}
	e.background.Go(func() {
		err := e.await(ctx, func() bool {
			switch condition {
			case container.WaitConditionRemoved:
				return c.gone
			case container.WaitConditionNextExit:
				return c.runs > runs || c.gone
			}
			return c.process == nil
		})
		if err != nil {
			failures <- err
			return
		}
		e.mu.Lock()
		response := container.WaitResponse{StatusCode: int64(c.exitCode)}
		e.mu.Unlock()
		select {
		case results <- response:
		case <-ctx.Done():
		}
	})
	return results, failures
}

// attachContainer streams a container's output: that of its present run, or, where it does
// not run, of its next.
func (e *Engine) attachContainer(ref string, options container.AttachOptions) (types.HijackedResponse, error) {
	e.mu.Lock()
	c := e.container(ref)
	if c == nil {
		e.mu.Unlock()
		return types.HijackedResponse{}, noUpgrade("tcp")
	}
	p, seen := c.process, 0
	if p != nil && !options.Logs {
		seen = len(p.log)
	}
	last := c.last
	e.mu.Unlock()

	near, far := net.Pipe()
	ctx, stop := context.WithCancel(context.Background())
	e.background.Go(func() {
		defer stop()
		_, _ = io.Copy(io.Discard, far) // ends when the client hangs up
	})
	e.background.Go(func() {
		defer far.Close()
		for {
			var frames []frame
			over := false
			err := e.await(ctx, func() bool {
				if p == nil {
					if p = c.process; p == nil && c.last != last {
						p = c.last // it was over before anybody looked
					}
				}
				if p == nil {
					over = c.gone
					return over
				}
				frames, over = slices.Clone(p.log[seen:]), p.closed
				seen = len(p.log)
				return over || len(frames) > 0
			})
			for _, f := range frames {
				if _, err := stdcopy.NewStdWriter(far, f.stream).Write([]byte(f.text)); err != nil {
					return
				}
			}
			if err != nil || over {
				return
			}
		}
	})
	return types.HijackedResponse{Conn: near, Reader: bufio.NewReader(near)}, nil
}

func (e *Engine) streamEvents(ctx context.Context, options events.ListOptions) (<-chan events.Message, <-chan error) {
	messages, failures := make(chan events.Message), make(chan error, 1)
	e.background.Go(func() {
		next := 0
		if options.Since == "" {
			e.mu.Lock()
			next = len(e.history)
			e.mu.Unlock()
		}
		for {
			var batch []events.Message
			err := e.await(ctx, func() bool {
				batch = slices.Clone(e.history[next:])
				next = len(e.history)
				return len(batch) > 0
			})
			if err != nil {
				failures <- err
				return
			}
			for _, message := range batch {
				if options.Filters.Contains("container") && !options.Filters.Match("container", message.Actor.ID) {
					continue
				}
				if options.Filters.Contains("event") && !options.Filters.ExactMatch("event", string(message.Action)) {
					continue
				}
				select {
				case messages <- message:
				case <-ctx.Done():
					failures <- ctx.Err()
					return
				}
			}
		}
	})
	return messages, failures
}
