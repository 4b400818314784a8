package memengine

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
)

func (c *box) status() container.ContainerState {
	switch {
	case c.removing:
		return container.StateRemoving
	case c.paused:
		return container.StatePaused
	case c.process != nil:
		return container.StateRunning
	case c.runs > 0:
		return container.StateExited
	}
	return container.StateCreated
}

func (e *Engine) inspectContainer(ref string) (container.InspectResponse, error) {
	var described container.InspectResponse
	err := e.withContainer(ref, func(c *box) error {
		state := &container.State{
			Status: c.status(), Running: c.process != nil, Paused: c.paused, Dead: c.removing,
			ExitCode: c.exitCode, Error: c.failure,
		}
		if c.process != nil && c.process.health != nil {
			health := *c.process.health
			state.Health = &health
		}
		config, host := c.config, c.host
		config.Env, config.Labels = slices.Clone(config.Env), maps.Clone(config.Labels)
		settings := &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{}}
		settings.Ports = maps.Clone(c.ports)
		for name, s := range c.networks {
			copied := *s
			settings.Networks[name] = &copied
		}
		described = container.InspectResponse{
			ContainerJSONBase: &container.ContainerJSONBase{ID: c.id, Name: "/" + c.name, Image: c.imageID, State: state, HostConfig: &host},
			Config:            &config,
			NetworkSettings:   settings,
		}
		return nil
	})
	return described, err
}

func (e *Engine) listContainers(options container.ListOptions) []container.Summary {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []container.Summary{}
	for _, c := range e.containers {
		if !options.All && c.process == nil || !matchesContainer(options.Filters, c) {
			continue
		}
		summary := container.Summary{
			ID: c.id, Names: []string{"/" + c.name}, Image: c.config.Image, ImageID: c.imageID,
			Labels: maps.Clone(c.config.Labels), State: c.status(), Status: fmt.Sprint(c.status()),
			NetworkSettings: &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{}},
		}
		for name, s := range c.networks {
			copied := *s
			summary.NetworkSettings.Networks[name] = &copied
		}
		for key, bindings := range c.ports {
			for _, b := range bindings {
				number, _ := strconv.ParseUint(b.HostPort, 10, 16)
				summary.Ports = append(summary.Ports, container.Port{IP: b.HostIP, PrivatePort: uint16(key.Int()), PublicPort: uint16(number), Type: key.Proto()})
			}
		}
		list = append(list, summary)
	}
	slices.SortFunc(list, func(a, b container.Summary) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func matchesContainer(args filters.Args, c *box) bool {
	if args.Contains("name") && !args.Match("name", "/"+c.name) {
		return false
	}
	return args.MatchKVList("label", c.config.Labels)
}
