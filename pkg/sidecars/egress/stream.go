package egress

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// countedBody counts what is read from a body and keeps the error that ended it
// too early.
type countedBody struct {
	io.ReadCloser
	count  func(int64)
	failed func(error) // may be nil

	mu  sync.Mutex
	err error
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.count(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		b.mu.Lock()
		b.err = err
		b.mu.Unlock()
		if b.failed != nil {
			b.failed(err)
		}
	}
	return n, err
}

func (b *countedBody) error() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// streamWriter flushes a response of unknown length piece by piece, so that a
// server's slow stream reaches the guest as it comes.
type streamWriter struct {
	http.ResponseWriter
	stream bool
}

// WriteHeader implements [http.ResponseWriter].
func (w *streamWriter) WriteHeader(status int) {
	w.stream = w.Header().Get("Content-Length") == ""
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *streamWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	if err == nil && w.stream {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	return n, err
}

// ReadFrom implements [io.ReaderFrom] with net/http's pooled buffers where
// nothing has to be flushed.
func (w *streamWriter) ReadFrom(r io.Reader) (int64, error) {
	if from, ok := w.ResponseWriter.(io.ReaderFrom); ok && !w.stream {
		return from.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{w}, r)
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
