package memengine

import (
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/pkg/stdcopy"
)

// ScriptVariable names the environment variable that tells a container's program what to
// do: statements separated by semicolons, after which it runs until it is told to stop.
//
//	print TEXT        write a line to standard output
//	err TEXT          write a line to standard error
//	env NAME          write the value of a variable to standard output
//	sleep DURATION    wait, as in time.ParseDuration
//	close             close standard output and standard error
//	ignore            take no notice of SIGTERM
//	health STATUS     become "healthy" or "unhealthy", where there is a health check
//	oom               use memory until the kernel ends the program
//	exit STATUS       exit
//
// The program that the tests run on real engines knows the same statements.
const ScriptVariable = "SCRIPT"

// process is one run of a container's program.
type process struct {
	log         []frame
	closed      bool // no more output comes
	ended       bool
	over        chan struct{} // closed at the end
	code        int
	ignoresTERM bool
	health      *container.Health // nil without a health check
}

// frame is one write to an output stream.
type frame struct {
	stream stdcopy.StdType
	text   string
}

func (p *process) end(code int) {
	p.closed, p.ended, p.code = true, true, code
	close(p.over)
}

// run starts a container's program. The statements up to the first sleep are done when it
// returns; the lock is held.
func (e *Engine) run(c *box) {
	p := &process{over: make(chan struct{})}
	if image := e.imageByID(c.imageID); c.config.Healthcheck != nil || image.Config != nil && image.Config.Healthcheck != nil {
		p.health = &container.Health{Status: container.Starting}
	}
	c.process = p
	var statements []string
	for _, entry := range c.config.Env {
		if script, ok := strings.CutPrefix(entry, ScriptVariable+"="); ok {
			statements = strings.Split(script, ";")
		}
	}
	e.advance(c, p, statements)
	e.broadcast()
}

func (e *Engine) advance(c *box, p *process, statements []string) {
	for i, statement := range statements {
		verb, argument, _ := strings.Cut(strings.TrimSpace(statement), " ")
		switch verb {
		case "print":
			p.write(stdcopy.Stdout, argument)
		case "err":
			p.write(stdcopy.Stderr, argument)
		case "env":
			for _, entry := range c.config.Env {
				if value, ok := strings.CutPrefix(entry, argument+"="); ok {
					p.write(stdcopy.Stdout, value)
				}
			}
		case "close":
			p.closed = true
		case "ignore":
			p.ignoresTERM = true
		case "health":
			if p.health != nil {
				p.health.Status = argument
				p.health.Log = append(p.health.Log, &container.HealthcheckResult{Output: "checked: " + argument + "\n"})
			}
		case "oom":
			e.record(c, events.ActionOOM)
			e.exit(c, exitKilled)
			return
		case "exit":
			code, _ := strconv.Atoi(argument)
			e.exit(c, code)
			return
		case "sleep":
			d, _ := time.ParseDuration(argument)
			e.background.Go(func() { e.proceed(c, p, d, statements[i+1:]) })
			return
		}
	}
}

// proceed goes on with a program after a while, unless it has ended.
func (e *Engine) proceed(c *box, p *process, after time.Duration, statements []string) {
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-p.over:
		return
	case <-timer.C:
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !p.ended {
		e.advance(c, p, statements)
		e.broadcast()
	}
}

func (p *process) write(stream stdcopy.StdType, line string) {
	if !p.closed {
		p.log = append(p.log, frame{stream, line + "\n"})
	}
}
