//go:build !unix

package egress

import "net"

// lazyReader reads from a connection; here without the saving that it is for
// where descriptors can be polled.
type lazyReader struct {
	conn   *net.TCPConn
	buffer *[pieceSize]byte
}

func newLazyReader(conn *net.TCPConn, _ *piecePool) (*lazyReader, error) {
	return &lazyReader{conn: conn, buffer: new([pieceSize]byte)}, nil
}

func (r *lazyReader) next() ([]byte, error) {
	n, err := r.conn.Read(r.buffer[:])
	if n > 0 {
		return r.buffer[:n], nil
	}
	return nil, err
}

func (r *lazyReader) release() {}
