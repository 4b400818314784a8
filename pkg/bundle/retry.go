package bundle

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// contention wraps an engine's answer which says that the bottle changed between the look
// and the act. Looking again is the way on.
type contention struct{ err error }

func (e *contention) Error() string { return e.err.Error() }
func (e *contention) Unwrap() error { return e.err }

const (
	retries       = 10
	firstInterval = 20 * time.Millisecond
	lastInterval  = time.Second
)

// retry calls do again for as long as it fails with a contention, a bounded number of
// times, at growing intervals. The error after the last is a [*BusyError].
func (l *Lifecycle) retry(ctx context.Context, slug string, do func() error) error {
	interval := firstInterval
	for attempt := 1; ; attempt++ {
		err := do()
		var contended *contention
		if !errors.As(err, &contended) {
			return err
		}
		if attempt == retries {
			return &BusyError{Slug: slug, Err: contended.err}
		}
		if err := pause(ctx, interval/2+rand.N(interval)); err != nil {
			return err
		}
		interval = min(2*interval, lastInterval)
	}
}

// pause waits between two looks at a condition that the engine does not announce.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
