//go:build linux

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// builtins are the built-in daemons of the tests.
var builtins = map[string]Factory{
	"good":  func(_ []string, out io.Writer) (Builtin, error) { return &good{out: out}, nil },
	"other": func(_ []string, out io.Writer) (Builtin, error) { return &good{out: out}, nil },
	"gated": func(_ []string, out io.Writer) (Builtin, error) {
		return &gated{good{out: out}}, nil
	},
	"quits":  func([]string, io.Writer) (Builtin, error) { return quits{}, nil },
	"panics": func([]string, io.Writer) (Builtin, error) { return panics{}, nil },
	"refuses": func([]string, io.Writer) (Builtin, error) {
		return nil, errors.New("EGRESS_ALLOW entry 3 is no host")
	},
}

type good struct{ out io.Writer }

func (g *good) Serve(ctx context.Context) error {
	<-ctx.Done()
	fmt.Fprintln(g.out, "drained")
	return ctx.Err()
}

func (g *good) Check(context.Context) error { return nil }

func (g *good) Reload(context.Context) error {
	fmt.Fprintln(g.out, "reloaded")
	if _, err := os.Stat(inDir("bad")); err == nil {
		return errors.New("the new configuration is bad")
	}
	return nil
}

// gated is well once the file "open" is there.
type gated struct{ good }

func (g *gated) Check(context.Context) error {
	_, err := os.Stat(inDir("open"))
	return err
}

func inDir(name string) string { return filepath.Join(os.Getenv("TEST_DIR"), "."+name) }

type quits struct{}

func (quits) Serve(context.Context) error { return nil }
func (quits) Check(context.Context) error { return nil }

type panics struct{}

func (panics) Serve(context.Context) error { panic("at the disco") }
func (panics) Check(context.Context) error { return nil }

// programs are the executables of the tests, by name.
var programs = map[string]func(){
	"steady": func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
		fmt.Println("up")
		for sig := range signals {
			fmt.Println("got", unix.SignalName(sig.(unix.Signal)))
			if sig != unix.SIGHUP {
				return
			}
		}
	},
	"watched":        func() { untilTerm() },
	"watched.health": func() { exitUnless("well", "the backend is away\nand so on") },
	"checkhangs":     func() { untilTerm() },
	"checkhangs.health": func() {
		fmt.Println("thinking")
		untilTerm()
	},
	"echoes": func() {
		fmt.Printf("%q %q\n", os.Args[1:], os.Getenv("TEST_OWN"))
		untilTerm()
	},
	"echoes.health": func() {
		fmt.Printf("%q %q\n", os.Args[1:], os.Getenv("TEST_OWN"))
		os.Exit(1)
	},
	"crashes": func() {
		fmt.Fprint(os.Stderr, "last words")
		os.Exit(7)
	},
	"stubborn": func() {
		signal.Ignore(unix.SIGTERM)
		fmt.Println("up")
		select {}
	},
	"talks": func() {
		for {
			fmt.Println(strings.Repeat("blah ", 200))
		}
	},
	// leaves starts a process that stays in its group, one that leaves it and
	// keeps the pipes, and waits.
	"leaves": func() {
		fmt.Println("in", spawn("sleeper", nil))
		fmt.Println("out", spawn("sleeper", &syscall.SysProcAttr{Setsid: true}))
		untilTerm()
	},
	"sleeper": func() { select {} },
	// orphans has one child after the other, each of which dies and leaves two
	// behind that end at once.
	"orphans": func() {
		for {
			if err := program("breeder", nil).Run(); err != nil {
				panic(err)
			}
		}
	},
	"breeder": func() {
		spawn("mayfly", nil)
		spawn("mayfly", nil)
	},
	"mayfly": func() {},
}

func untilTerm() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	<-signals
}

func exitUnless(file, complaint string) {
	if _, err := os.Stat(inDir(file)); err != nil {
		fmt.Println(complaint)
		os.Exit(1)
	}
}

// spawn starts a program and does not wait for it.
func spawn(name string, attr *syscall.SysProcAttr) int {
	cmd := program(name, attr)
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	return cmd.Process.Pid
}

func program(name string, attr *syscall.SysProcAttr) *exec.Cmd {
	return &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{name}, Stdout: os.Stdout, Stderr: os.Stderr, SysProcAttr: attr,
	}
}
