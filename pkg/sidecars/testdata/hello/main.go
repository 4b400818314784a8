// Command hello is the daemon of a derived image, and, called hello.health, its
// health check.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	switch role := filepath.Base(os.Args[0]); {
	case role == "hello.health":
		check()
	case len(os.Args) == 1:
		serve()
	case os.Args[1] == "parent":
		spawn("orphan", strconv.Itoa(os.Getpid()))
	case os.Args[1] == "orphan":
		orphan()
	}
}

func serve() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	spawn("parent").Wait()
	fmt.Print("binary \x1b[2J\x00\xff\n")
	fmt.Println(strings.Repeat("long ", 10_000))
	fmt.Println(`{"hello":"world"}`)
	for sig := range signals {
		fmt.Println("got", sig)
		if sig == syscall.SIGTERM && os.Getenv("HELLO_STUBBORN") == "" {
			return
		}
	}
}

// check finds the daemon well unless it was told otherwise.
func check() {
	if sick := os.Getenv("HELLO_SICK"); sick != "" {
		fmt.Println(sick)
		os.Exit(1)
	}
}

// orphan waits until its parent, whose process id is its argument, has ended and
// somebody has adopted it.
func orphan() {
	for strconv.Itoa(os.Getppid()) == os.Args[2] {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("orphan adopted by", os.Getppid())
}

func spawn(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Stdout = os.Stdout
	// Outside of the group of the daemon.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	return cmd
}
