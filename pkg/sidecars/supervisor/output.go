//go:build linux

package supervisor

import (
	"io"
	"os"
	"sync/atomic"
	"time"
)

const (
	// outputIdle is how long a stream is read after the end of its process without
	// anything coming: others that it has left behind may hold the pipe open.
	outputIdle = 250 * time.Millisecond

	// outputRest is how long it is read after the end of its process at all.
	outputRest = time.Second

	// maxCheckOutput is how much of the output of a health check is kept, in bytes.
	maxCheckOutput = 512
)

// output takes what a process writes to one of its streams into the log.
type output struct {
	read, write *os.File
	ended       atomic.Pointer[time.Time] // when the process ended
	copied      chan struct{}
}

// capture returns an output whose write end is for the process of d.
func (d *daemon) capture(stream string) (*output, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o := &output{read: read, write: write, copied: make(chan struct{})}
	go func() {
		defer close(o.copied)
		d.supervisor.log.Copy(d.name, stream, o)
	}()
	return o, nil
}

// Read reads what the process has written. Time spent on the log between two
// reads counts only against outputRest.
func (o *output) Read(p []byte) (int, error) {
	if ended := o.ended.Load(); ended != nil {
		o.setDeadline(*ended)
	}
	return o.read.Read(p)
}

// finish returns when what the process wrote before its end is in the log.
func (o *output) finish() {
	_ = o.write.Close()
	now := time.Now()
	o.ended.Store(&now)
	o.setDeadline(now)
	<-o.copied
	_ = o.read.Close()
}

func (o *output) setDeadline(ended time.Time) {
	idle, rest := time.Now().Add(outputIdle), ended.Add(outputRest)
	if rest.Before(idle) {
		idle = rest
	}
	_ = o.read.SetReadDeadline(idle)
}

// readHead reads r to its end, or to the first error, and returns the first limit
// bytes.
func readHead(r io.Reader, limit int64) []byte {
	head, _ := io.ReadAll(io.LimitReader(r, limit))
	_, _ = io.Copy(io.Discard, r)
	return head
}
