// Bundle is a bundle that fails as it is told to. It is PID 1 of a container without
// anything else, and its own health check.
//
//	MODE=serve   write FILES files, then answer connections to port 3128 with "up" until
//	             SIGTERM (the default)
//	MODE=exit    log LINES lines and exit with STATUS after DELAY
//	MODE=eat     use more and more memory
//	MODE=stuck   ignore SIGTERM
//
// Run with the argument "health", it exits with status 0 where HEALTH is "good" or the
// server has run for HEALTHY_AFTER.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const startFile = "/started"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "health" {
		os.Exit(health())
	}
	if err := os.WriteFile(startFile, nil, 0o600); err != nil {
		fail(err)
	}
	switch mode := os.Getenv("MODE"); mode {
	case "", "serve":
		serve()
	case "exit":
		exit()
	case "eat":
		eat()
	case "stuck":
		signal.Ignore(syscall.SIGTERM)
		select {}
	default:
		fail(fmt.Errorf("unknown MODE %q", mode))
	}
}

func serve() {
	files, _ := strconv.Atoi(os.Getenv("FILES"))
	for i := range files {
		if err := os.WriteFile(fmt.Sprintf("/file%d", i), nil, 0o600); err != nil {
			fail(err)
		}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	listener, err := net.Listen("tcp", ":3128")
	if err != nil {
		fail(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				fail(err)
			}
			fmt.Fprintln(conn, "up")
			conn.Close()
		}
	}()
	<-stop
}

func exit() {
	time.Sleep(duration("DELAY"))
	lines, _ := strconv.Atoi(os.Getenv("LINES"))
	for i := range lines {
		fmt.Printf("line %d\n", i+1)
	}
	status, err := strconv.Atoi(os.Getenv("STATUS"))
	if err != nil {
		fail(err)
	}
	os.Exit(status)
}

func eat() {
	fmt.Println("hungry")
	var eaten [][]byte
	for {
		bite := make([]byte, 1<<20)
		for i := range bite {
			bite[i] = 1 // untouched memory is not used
		}
		eaten = append(eaten, bite)
	}
}

func health() int {
	started, err := os.Stat(startFile)
	after := duration("HEALTHY_AFTER")
	switch {
	case err != nil:
		fmt.Println(err)
		return 1
	case os.Getenv("HEALTH") != "good":
		fmt.Println("the spleen is out of order")
		return 1
	case time.Since(started.ModTime()) < after:
		fmt.Println("not yet")
		return 1
	}
	return 0
}

func duration(name string) time.Duration {
	d, _ := time.ParseDuration(os.Getenv(name))
	return d
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
