// Program is what the tests run in containers of a real engine. It does what the
// environment variable SCRIPT says, in the statements that package memengine documents,
// and then runs until it is told to stop.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// healthFile carries the health from the program to its health check.
const healthFile = "/health"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "check" {
		check()
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	for statement := range strings.SplitSeq(os.Getenv("SCRIPT"), ";") {
		verb, argument, _ := strings.Cut(strings.TrimSpace(statement), " ")
		perform(verb, argument)
	}
	<-stop
}

func perform(verb, argument string) {
	switch verb {
	case "print":
		fmt.Println(argument)
	case "err":
		fmt.Fprintln(os.Stderr, argument)
	case "env":
		fmt.Println(os.Getenv(argument))
	case "sleep":
		d, err := time.ParseDuration(argument)
		must(err)
		time.Sleep(d)
	case "close":
		must(os.Stdout.Close())
		must(os.Stderr.Close())
	case "ignore":
		signal.Ignore(syscall.SIGTERM)
	case "health":
		must(os.WriteFile(healthFile, []byte(argument), 0o644))
	case "oom":
		var kept [][]byte
		for {
			page := make([]byte, 1<<20)
			for i := range page {
				page[i] = 1
			}
			kept = append(kept, page)
		}
	case "exit":
		status, err := strconv.Atoi(argument)
		must(err)
		os.Exit(status)
	}
}

// check is the health check: it succeeds once the program says that it is healthy.
func check() {
	health, err := os.ReadFile(healthFile)
	if err != nil || string(health) != "healthy" {
		fmt.Println("checked: not healthy")
		os.Exit(1)
	}
	os.Exit(0)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
}
