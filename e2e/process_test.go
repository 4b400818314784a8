//go:build e2e && unix

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// background is a docker command that runs beside the script.
type background struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	ended          chan struct{}
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[1] != "docker" {
		ts.Fatalf("usage: start NAME docker ARGS...")
	}
	sc := scriptOf(ts)
	b := &background{cmd: exec.Command("docker", args[2:]...), ended: make(chan struct{})}
	b.cmd.Env = sc.environ
	b.cmd.Dir = ts.MkAbs(".")
	b.cmd.Stdout, b.cmd.Stderr = &b.stdout, &b.stderr
	// A terminal has every command line in a process group of its own.
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ts.Check(b.cmd.Start())
	sc.background[args[0]] = b
	go func() {
		defer close(b.ended)
		_ = b.cmd.Wait() // its state has the exit status
	}()
}

func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	whole := true
	if len(args) == 2 && args[0] == "-cli" {
		whole, args = false, args[1:]
	}
	b := scriptOf(ts).find(ts, arguments(ts, neg, args, 1)[0])
	pid := b.cmd.Process.Pid
	if whole {
		pid = -pid // the process group, which is what a terminal interrupts
	}
	ts.Check(syscall.Kill(pid, syscall.SIGINT))
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] await NAME")
	}
	sc := scriptOf(ts)
	b := sc.find(ts, args[0])
	select {
	case <-b.ended:
	case <-time.After(patience):
		ts.Fatalf("%s has not ended after %s", b.cmd, patience)
	}
	delete(sc.background, args[0])
	fmt.Fprint(ts.Stdout(), b.stdout.String())
	fmt.Fprint(ts.Stderr(), b.stderr.String())
	sc.ended(ts, neg, b.cmd.ProcessState.ExitCode())
}

func (sc *script) find(ts *testscript.TestScript, name string) *background {
	b := sc.background[name]
	if b == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return b
}

// kill ends what a script that failed has left running.
func (sc *script) kill() {
	for _, b := range sc.background {
		_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
		<-b.ended
	}
}

func watchCommandLines(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || args[1] != "docker" {
		ts.Fatalf("usage: [!] cmdlines TEXT docker ARGS...")
	}
	stop, seen := make(chan struct{}), make(chan string)
	go func() { seen <- lookForCommandLine(args[0], stop) }()
	runDocker(ts, false, args[2:])
	close(stop)
	switch line := <-seen; {
	case neg && line == "":
		ts.Fatalf("no process had %s on its command line", args[0])
	case !neg && line != "":
		ts.Fatalf("a process had %s on its command line: %q", args[0], line)
	}
}

// lookForCommandLine reads the command lines of all processes again and again, until one
// contains the text or stop is closed.
func lookForCommandLine(text string, stop <-chan struct{}) string {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for {
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range lines {
			line, err := os.ReadFile(name)
			if err == nil && bytes.Contains(line, []byte(text)) && name != "/proc/"+strconv.Itoa(os.Getpid())+"/cmdline" {
				return string(line)
			}
		}
		select {
		case <-stop:
			return ""
		case <-ticker.C:
		}
	}
}
