package bundle

import (
	"net"

	"golang.org/x/sys/unix"
)

// isPeerVisible reports whether the process that listens on a Unix socket is in this
// process's PID namespace: the kernel gives the peer's PID as seen from here, 0 where it
// can't be seen (unix(7), SO_PEERCRED).
func isPeerVisible(path string) bool {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return false
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	visible := false
	err = raw.Control(func(fd uintptr) {
		peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		visible = err == nil && peer.Pid != 0
	})
	return err == nil && visible
}
