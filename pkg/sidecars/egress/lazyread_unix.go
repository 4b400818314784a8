//go:build unix

package egress

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// lazyReader reads from a connection into a buffer that it borrows only when
// there is something to read, so that an idle tunnel holds none.
type lazyReader struct {
	raw    syscall.RawConn
	pool   *piecePool
	try    func(fd uintptr) bool
	buffer *[pieceSize]byte // borrowed, nil between reads
	n      int
	err    error
}

func newLazyReader(conn *net.TCPConn, pool *piecePool) (*lazyReader, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	r := &lazyReader{raw: raw, pool: pool}
	r.try = r.read
	return r, nil
}

// next waits for data and returns it. The slice is valid until release.
func (r *lazyReader) next() ([]byte, error) {
	r.n, r.err = 0, nil
	if err := r.raw.Read(r.try); err != nil {
		return nil, err
	}
	if r.err != nil {
		return nil, r.err
	}
	if r.n == 0 {
		return nil, io.EOF
	}
	return r.buffer[:r.n], nil
}

// read is one attempt on the non-blocking descriptor; false means to wait.
func (r *lazyReader) read(fd uintptr) bool {
	buffer := r.pool.get()
	for {
		r.n, r.err = syscall.Read(int(fd), buffer[:])
		if !errors.Is(r.err, syscall.EINTR) {
			break
		}
	}
	if r.err == nil && r.n > 0 {
		r.buffer = buffer
		return true
	}
	r.pool.put(buffer)
	return !errors.Is(r.err, syscall.EAGAIN)
}

// release gives the buffer back.
func (r *lazyReader) release() {
	if r.buffer != nil {
		r.pool.put(r.buffer)
		r.buffer = nil
	}
}
