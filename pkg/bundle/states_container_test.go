package bundle

import "github.com/docker/docker/api/types/container"

// containerStates lists how each state of the container is made; some in several ways.
var containerStates = map[state]map[string]func(s *stage){
	stateAbsent: {"nothing there": func(*stage) {}},
	stateRemoving: {"just stopped": func(s *stage) {
		up := s.up(s.spec)
		s.must(s.engine.ContainerStop(s.t.Context(), up.ContainerID, container.StopOptions{}))
	}},
	stateForeign: {"of somebody else": func(s *stage) {
		config := &container.Config{Image: s.spec.image()}
		_, err := s.engine.ContainerCreate(s.t.Context(), config, &container.HostConfig{}, nil, nil, ContainerName(s.spec.Slug))
		s.must(err)
	}},
	stateStopped: {"exited": func(s *stage) {
		id := s.create(s.spec, func(host *container.HostConfig) { host.AutoRemove = false })
		s.must(s.engine.ContainerStart(s.t.Context(), id, container.StartOptions{}))
		s.must(s.engine.ContainerStop(s.t.Context(), id, container.StopOptions{}))
	}},
	stateChanged: {
		"other value of a variable": func(s *stage) {
			other := s.spec
			other.Env = []string{"MODE=before"}
			s.spec.Env = []string{"MODE=after"}
			s.up(other)
		},
		"other ports": func(s *stage) {
			other := s.spec
			other.Ports = []Port{{ContainerPort: 80}}
			s.up(other)
		},
		"other daemons": func(s *stage) {
			other := s.spec
			other.Daemons = []string{"supervise"}
			s.up(other)
		},
	},
	stateMisplaced: {
		"disconnected": func(s *stage) {
			up := s.up(s.spec)
			s.must(s.engine.NetworkDisconnect(s.t.Context(), up.NetworkID, up.ContainerID, true))
		},
		"at another address": func(s *stage) {
			other := s.spec
			other.Address = s.spec.Subnet.Addr().Next().Next().Next()
			s.up(other)
		},
		"never started, and its network is gone": func(s *stage) {
			s.create(s.spec, nil)
			s.must(s.engine.NetworkRemove(s.t.Context(), NetworkName(s.spec.Slug)))
		},
	},
	stateCreated: {"never started": func(s *stage) { s.create(s.spec, nil) }},
	statePaused: {"paused": func(s *stage) {
		s.must(s.engine.ContainerPause(s.t.Context(), s.up(s.spec).ContainerID))
	}},
	stateRunning: {"running": func(s *stage) { s.up(s.spec) }},
}
