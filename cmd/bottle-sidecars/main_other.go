//go:build !linux

// Command bottle-sidecars is PID 1 of the default bundle. It runs in Linux
// containers only.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bottle-sidecars runs in Linux containers only")
	os.Exit(1)
}
