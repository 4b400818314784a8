package memengine

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
)

const (
	exitKilled   = 128 + 9 // by SIGKILL
	exitNotBegun = 128     // the start failed
	firstPort    = 32768   // of those that are chosen by the engine
)

// box is a container.
type box struct {
	id, name string
	config   container.Config
	host     container.HostConfig
	imageID  string
	networks map[string]*network.EndpointSettings
	ports    nat.PortMap // published, while it runs

	process  *process // nil unless it runs
	last     *process // the process that ran last
	runs     int      // how often it has exited
	paused   bool
	removing bool
	gone     bool
	exitCode int
	failure  string
}

func (e *Engine) createContainer(config *container.Config, host *container.HostConfig, networking *network.NetworkingConfig, name string) (container.CreateResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var created container.CreateResponse
	found, ok := e.images[normalize(config.Image)]
	if !ok {
		return created, notFound("No such image: %s", config.Image)
	}
	c := &box{id: e.nextID(), name: name, config: *config, host: *host, imageID: found.ID, networks: map[string]*network.EndpointSettings{}}
	c.config.Env = mergeEnv(found.Config.Env, config.Env)
	c.config.Labels = maps.Clone(found.Config.Labels)
	if c.config.Labels == nil {
		c.config.Labels = map[string]string{}
	}
	maps.Copy(c.config.Labels, config.Labels)
	if name := string(host.NetworkMode); name != "" && name != "default" {
		c.networks[name] = &network.EndpointSettings{}
		if networking != nil && networking.EndpointsConfig[name] != nil {
			asked := *networking.EndpointsConfig[name]
			c.networks[name] = &asked
		}
	}
	if e.release >= Docker28 {
		for name, settings := range c.networks {
			if n, err := e.network(name); err == nil && pinned(settings) != "" {
				if err := e.checkPin(n, pinned(settings)); err != nil {
					return created, err
				}
			}
		}
	}
	if holder, taken := e.names[name]; taken {
		return created, conflict("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, holder)
	}
	e.names[name] = c.id
	e.containers[c.id] = c
	e.record(c, events.ActionCreate)
	return container.CreateResponse{ID: c.id, Warnings: []string{}}, nil
}

// mergeEnv adds a container's variables to its image's. A name alone unsets a variable.
func mergeEnv(base, own []string) []string {
	merged := slices.Clone(own)
	for _, entry := range base {
		name, _, _ := strings.Cut(entry, "=")
		if !slices.ContainsFunc(own, func(o string) bool { n, _, _ := strings.Cut(o, "="); return n == name }) {
			merged = append(merged, entry)
		}
	}
	return slices.DeleteFunc(merged, func(entry string) bool { return !strings.Contains(entry, "=") })
}

func pinned(settings *network.EndpointSettings) string {
	if settings.IPAMConfig == nil {
		return ""
	}
	return settings.IPAMConfig.IPv4Address
}

// container finds a container by its ID, the beginning of it, or its name; nil if there is
// none.
func (e *Engine) container(ref string) *box {
	if c := e.containers[ref]; c != nil {
		return c
	}
	if c := e.containers[e.names[strings.TrimPrefix(ref, "/")]]; c != nil {
		return c
	}
	for id, c := range e.containers {
		if len(ref) >= 12 && strings.HasPrefix(id, ref) {
			return c
		}
	}
	return nil
}

// withContainer calls do with a container and the lock.
func (e *Engine) withContainer(ref string, do func(c *box) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.container(ref)
	if c == nil {
		return noContainer(ref)
	}
	return do(c)
}

func (e *Engine) startContainer(ref string) error {
	return e.withContainer(ref, func(c *box) error {
		switch {
		case c.paused:
			return conflict("cannot start a paused container, try unpause instead")
		case c.process != nil:
			return nil // 304, which the client takes for success
		case c.removing:
			return conflict("container is marked for removal and cannot be started")
		}
		if err := e.connect(c); err != nil {
			err = e.unconnected(err)
			c.exitCode, c.failure = exitNotBegun, err.Error()
			e.detach(c)
			if c.host.AutoRemove {
				e.beginRemoval(c)
			}
			return err
		}
		e.record(c, events.ActionStart)
		e.run(c)
		return nil
	})
}

// connect gives a container its endpoints and published ports.
func (e *Engine) connect(c *box) error {
	for name, settings := range c.networks {
		ref := name
		if settings.NetworkID != "" {
			ref = settings.NetworkID
		}
		n, err := e.network(ref)
		if err != nil {
			return err
		}
		p, err := e.attach(n, c, pinned(settings))
		if err != nil {
			return err
		}
		settings.NetworkID, settings.EndpointID = n.id, p.id
		if n.pool != nil {
			settings.IPAddress, settings.IPPrefixLen, settings.Gateway = p.address.String(), n.pool.prefix.Bits(), n.gateway.String()
		}
	}
	return e.publish(c)
}

func (e *Engine) publish(c *box) error {
	used := func(key nat.Port, binding nat.PortBinding) bool {
		for _, other := range e.containers {
			for otherKey, bindings := range other.ports {
				if otherKey.Proto() == key.Proto() && slices.Contains(bindings, binding) {
					return true
				}
			}
		}
		return false
	}
	published := nat.PortMap{}
	for key, bindings := range c.host.PortBindings {
		published[key] = nil
		for _, binding := range bindings {
			first, last := firstPort, 65535
			if binding.HostPort != "" {
				from, to, _ := strings.Cut(binding.HostPort, "-")
				first, _ = strconv.Atoi(from)
				if last = first; to != "" {
					last, _ = strconv.Atoi(to)
				}
			}
			chosen := binding
			for number := first; ; number++ {
				if number > last {
					return Internal("driver failed programming external connectivity on endpoint %s (%s): Bind for %s:%d failed: port is already allocated", c.name, c.id, binding.HostIP, last)
				}
				chosen.HostPort = strconv.Itoa(number)
				if !used(key, chosen) && !slices.Contains(published[key], chosen) {
					break
				}
			}
			published[key] = append(published[key], chosen)
		}
	}
	c.ports = published
	return nil
}

// detach takes a container's endpoints and ports away.
func (e *Engine) detach(c *box) {
	for _, n := range e.networks {
		n.endpoints = slices.DeleteFunc(n.endpoints, func(p *port) bool { return p.container == c.id })
	}
	for _, settings := range c.networks {
		settings.EndpointID, settings.IPAddress, settings.Gateway, settings.IPPrefixLen = "", "", "", 0
	}
	c.ports = nil
}

// exit ends a container's process.
func (e *Engine) exit(c *box, code int) {
	c.last, c.process, c.paused = c.process, nil, false
	c.exitCode = code
	c.runs++
	c.last.end(code)
	e.detach(c)
	e.record(c, events.ActionDie, "exitCode", strconv.Itoa(code))
	if c.host.AutoRemove {
		e.beginRemoval(c)
	}
	e.broadcast()
}

// beginRemoval removes a container in its own time.
func (e *Engine) beginRemoval(c *box) {
	if c.removing {
		return
	}
	c.removing = true
	e.broadcast()
	e.background.Go(func() {
		time.Sleep(e.pace.Removal)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.forget(c)
	})
}

// forget removes a container; its name stays taken a little longer.
func (e *Engine) forget(c *box) {
	if c.gone {
		return
	}
	c.gone = true
	delete(e.containers, c.id)
	e.record(c, events.ActionDestroy)
	if e.pace.NameRelease == 0 {
		delete(e.names, c.name)
	} else {
		e.background.Go(func() {
			time.Sleep(e.pace.NameRelease)
			e.mu.Lock()
			defer e.mu.Unlock()
			delete(e.names, c.name)
		})
	}
	e.broadcast()
}

func (e *Engine) stopContainer(ref string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.container(ref)
	if c == nil {
		return noContainer(ref)
	}
	if c.process == nil {
		return nil // 304, which the client takes for success
	}
	c.paused = false
	e.record(c, events.ActionKill, "signal", "15")
	if c.process.ignoresTERM {
		e.record(c, events.ActionKill, "signal", "9")
		e.exit(c, exitKilled)
	} else {
		e.exit(c, 0)
	}
	e.record(c, events.ActionStop)
	return nil
}

func (e *Engine) killContainer(ref string) error {
	return e.withContainer(ref, func(c *box) error {
		if c.process == nil {
			return conflict("Cannot kill container: %s: Container %s is not running", ref, c.id)
		}
		e.record(c, events.ActionKill, "signal", "9")
		e.exit(c, exitKilled)
		return nil
	})
}

// Kill ends a container's program from outside of the engine, as the host's own kill does.
func (e *Engine) Kill(ref string) error {
	return e.withContainer(ref, func(c *box) error {
		if c.process != nil {
			e.exit(c, exitKilled)
		}
		return nil
	})
}

func (e *Engine) pauseContainer(ref string, pause bool) error {
	return e.withContainer(ref, func(c *box) error {
		switch {
		case !pause && !c.paused:
			return Internal("Container %s is not paused", c.id)
		case pause && c.process == nil:
			return conflict("Container %s is not running", c.id)
		case pause && c.paused:
			return conflict("Container %s is already paused", c.id)
		}
		c.paused = pause
		e.broadcast()
		return nil
	})
}

// removeContainer returns when the container is gone, as the engine does.
func (e *Engine) removeContainer(ref string, force bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.container(ref)
	switch {
	case c == nil:
		return noContainer(ref)
	case c.removing:
		return conflict("removal of container %s is already in progress", c.id)
	case c.process != nil && !force && e.release < Docker28:
		return conflict("You cannot remove a running container %s. Stop the container before attempting removal or force remove", c.id)
	case c.process != nil && !force:
		return conflict("cannot remove container %q: container is running: stop the container before removing or force remove", c.id)
	}
	c.removing = true
	if c.process != nil {
		e.record(c, events.ActionKill, "signal", "9")
		e.exit(c, exitKilled)
	}
	e.mu.Unlock()
	time.Sleep(e.pace.Removal)
	e.mu.Lock()
	e.forget(c)
	return nil
}
