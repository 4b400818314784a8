//go:build e2e && unix

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

// patience bounds every wait for a condition; interval is the time between two looks.
const (
	patience = time.Minute
	interval = 20 * time.Millisecond
)

type command = func(ts *testscript.TestScript, neg bool, args []string)

// commands returns the commands that doc.go describes.
func (s *suite) commands() map[string]command {
	return map[string]command{
		"docker":    runDocker,
		"barred":    barred,
		"status":    checkStatus,
		"says":      checkMessage,
		"resources": s.listResources,
		"get":       get,
		"ask":       ask,
		"capture":   capture,
		"field":     checkField,
		"instate":   s.awaitState,
		"alike":     s.compare,
		"cmdlines":  watchCommandLines,
		"start":     start,
		"interrupt": interrupt,
		"await":     await,
		"veil":      s.veil,
	}
}

func runDocker(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("docker", args...)
	status := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		status = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	scriptOf(ts).ended(ts, neg, status)
}

// attempts is how often a connection that must not be possible is tried.
const attempts = 10

// barred runs a docker command that must not get through to another network. Docker 20.10
// opens its networks to each other's published ports for some milliseconds whenever any
// network is created, as other scripts do all the time: so one attempt that fails shows
// that the way is barred, and only if all succeed it is not.
func barred(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[0] != "docker" {
		ts.Fatalf("usage: barred docker ARG...")
	}
	for range attempts {
		if err := ts.Exec("docker", args[1:]...); err != nil {
			return
		}
	}
	ts.Fatalf("the command succeeded %d times", attempts)
}

// ended takes note of the exit status of a docker command.
func (sc *script) ended(ts *testscript.TestScript, neg bool, status int) {
	sc.status = status
	switch {
	case !neg && status != 0:
		ts.Fatalf("docker failed with exit status %d", status)
	case neg && status == 0:
		ts.Fatalf("docker succeeded, and should have failed")
	}
}

func checkStatus(ts *testscript.TestScript, neg bool, args []string) {
	want := arguments(ts, neg, args, 1)
	if got := strconv.Itoa(scriptOf(ts).status); got != want[0] {
		ts.Fatalf("exit status %s, want %s", got, want[0])
	}
}

func checkMessage(ts *testscript.TestScript, neg bool, args []string) {
	want := arguments(ts, neg, args, 1)
	if stdout := ts.ReadFile("stdout"); stdout != "" {
		ts.Fatalf("stdout is not empty: %q", stdout)
	}
	if diff := cmp.Diff(want[0]+"\n", ts.ReadFile("stderr")); diff != "" {
		ts.Fatalf("stderr is another (-want +got):\n%s", diff)
	}
}

func (s *suite) listResources(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0)
	found, err := s.resources(context.Background(), scriptOf(ts).slug)
	ts.Check(err)
	stdout := ts.Stdout() // empties it
	for _, line := range found {
		fmt.Fprintln(stdout, line)
	}
}

// get waits for a server that is only starting: engines accept connections to a published
// port before anybody listens inside.
func get(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] get URL")
	}
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func() (string, error) {
		response, err := client.Get(args[0])
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
	if neg {
		if body, err := ask(); err == nil {
			ts.Fatalf("%s answered: %s", args[0], body)
		}
		return
	}
	until(ts, args[0]+" answers", func() (bool, error) {
		body, err := ask()
		if err == nil {
			fmt.Fprint(ts.Stdout(), body)
		}
		return err == nil, nil
	})
}

func ask(ts *testscript.TestScript, neg bool, args []string) {
	args = arguments(ts, neg, args, 3)
	conn, err := net.Dial(args[0], args[1])
	ts.Check(err)
	defer conn.Close()
	buffer := make([]byte, 2048)
	until(ts, args[1]+" answers", func() (bool, error) {
		if _, err := conn.Write([]byte(args[2])); err != nil {
			return false, nil // nobody listens yet
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return false, err
		}
		n, err := conn.Read(buffer)
		if err == nil {
			fmt.Fprintf(ts.Stdout(), "%s\n", buffer[:n])
		}
		return err == nil, nil
	})
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: capture VARIABLE [FIELD]")
	}
	value := strings.TrimSpace(ts.ReadFile("stdout"))
	if len(args) == 2 {
		value = lookUp(ts, args[1])
	}
	ts.Setenv(args[0], value)
}

func checkField(ts *testscript.TestScript, neg bool, args []string) {
	args = arguments(ts, neg, args, 2)
	if got := lookUp(ts, args[0]); got != args[1] {
		ts.Fatalf("%s is %q, want %q", args[0], got, args[1])
	}
}

// lookUp finds a field such as Ports.0.HostIP in the last output's only line of JSON.
func lookUp(ts *testscript.TestScript, name string) string {
	var value any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &value))
	for key := range strings.SplitSeq(name, ".") {
		switch v := value.(type) {
		case map[string]any:
			found := false
			if value, found = v[key]; !found {
				ts.Fatalf("there is no %s in %s", key, ts.ReadFile("stdout"))
			}
		case []any:
			i, err := strconv.Atoi(key)
			ts.Check(err)
			if i >= len(v) {
				ts.Fatalf("there is no %s in %s", name, ts.ReadFile("stdout"))
			}
			value = v[i]
		default:
			ts.Fatalf("%s of %v is neither in an object nor in a list", key, v)
		}
	}
	return fmt.Sprint(value)
}

func (s *suite) awaitState(ts *testscript.TestScript, neg bool, args []string) {
	args = arguments(ts, neg, args, 2)
	until(ts, fmt.Sprintf("container %s is %s", args[0], args[1]), func() (bool, error) {
		found, err := s.engine.ContainerInspect(context.Background(), args[0])
		if errdefs.IsNotFound(err) {
			return args[1] == "gone", nil
		}
		return err == nil && found.State.Status == args[1], err
	})
}

func (s *suite) compare(ts *testscript.TestScript, neg bool, args []string) {
	args = arguments(ts, neg, args, 2)
	ours, err := s.appearance(context.Background(), args[0])
	ts.Check(err)
	theirs, err := s.appearance(context.Background(), args[1])
	ts.Check(err)
	if diff := cmp.Diff(theirs, ours); diff != "" {
		ts.Fatalf("%s (+) is not like %s (-):\n%s", args[0], args[1], diff)
	}
}

// arguments checks their number, and that the command is not negated.
func arguments(ts *testscript.TestScript, neg bool, args []string, n int) []string {
	if neg {
		ts.Fatalf("this command takes no !")
	}
	if len(args) != n {
		ts.Fatalf("%d arguments, want %d: %q", len(args), n, args)
	}
	return args
}

// until waits for a condition, and fails the script when it does not come true.
func until(ts *testscript.TestScript, what string, holds func() (bool, error)) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		ok, err := holds()
		ts.Check(err)
		if ok {
			return
		}
		select {
		case <-deadline.C:
			ts.Fatalf("waited %s in vain until %s", patience, what)
		case <-ticker.C:
		}
	}
}
