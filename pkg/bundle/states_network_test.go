package bundle

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
)

// networkStates lists how each state of the network is made. They report whether the
// engine can have it.
var networkStates = map[string]func(s *stage) bool{
	"absent": func(*stage) bool { return true },
	"usable": func(s *stage) bool { return s.network(s.at("10.201.9.0/24"), "", true) },
	"unlabelled": func(s *stage) bool {
		s.spec.Subnet = netip.Prefix{}
		return s.network(s.at("10.201.9.0/24"), s.at("10.201.9.1"), false)
	},
	"duplicate": func(s *stage) bool {
		if s.duplicate == nil {
			return false
		}
		s.network(s.at("10.201.9.0/24"), "", true)
		s.duplicate(NetworkName(s.spec.Slug), s.at("10.201.8.0/24"), map[string]string{LabelSlug: s.spec.Slug})
		return true
	},
	"namesake": func(s *stage) bool {
		if s.duplicate == nil {
			return false
		}
		s.network(s.at("10.201.9.0/24"), "", true)
		s.duplicate(NetworkName(s.spec.Slug), s.at("10.201.8.0/24"), nil)
		return true
	},
	"no-ipv4": func(s *stage) bool {
		if !s.withoutIPv4 {
			return false
		}
		no, yes := false, true
		options := bottleNetwork(s.spec.Slug, fmt.Sprintf("fd00:b0b0:%x::/64", s.octet), "")
		options.EnableIPv4, options.EnableIPv6 = &no, &yes
		_, err := s.engine.NetworkCreate(s.t.Context(), NetworkName(s.spec.Slug), options)
		s.must(err)
		return true
	},
	"engine-subnet": func(s *stage) bool {
		s.spec.Subnet = netip.Prefix{}
		return s.network("", "", true)
	},
	"gateway-at-bundle": func(s *stage) bool {
		s.spec.Subnet = netip.Prefix{}
		return s.network(s.at("10.201.9.0/24"), s.at("10.201.9.2"), true)
	},
	"other-subnet": func(s *stage) bool { return s.network(s.at("10.201.8.0/24"), "", true) },
	"other-gateway": func(s *stage) bool {
		s.spec.Gateway = netip.MustParseAddr(s.at("10.201.9.254"))
		return s.network(s.at("10.201.9.0/24"), s.at("10.201.9.1"), true)
	},
	"shared": func(s *stage) bool {
		_, _, _, err := s.life.CreateNetwork(s.t.Context(), s.spec)
		s.must(err)
		s.guest("")
		return true
	},
	"address-taken": func(s *stage) bool {
		_, _, _, err := s.life.CreateNetwork(s.t.Context(), s.spec)
		s.must(err)
		s.guest(s.at("10.201.9.2"))
		return true
	},
	"stale-endpoint": func(s *stage) bool {
		if s.leaveStale == nil {
			return false
		}
		id, _, _, err := s.life.CreateNetwork(s.t.Context(), s.spec)
		s.must(err)
		s.leaveStale(id, ContainerName(s.spec.Slug), netip.MustParseAddr(s.at("10.201.9.2")))
		return true
	},
	"subnet-overlaps": func(s *stage) bool {
		_, err := s.engine.NetworkCreate(s.t.Context(), s.otherName(), bottleNetwork("", s.at("10.201.8.0/23"), ""))
		s.must(err)
		return true
	},
}

func (s *stage) otherName() string { return s.spec.Slug + "-other" }

func (s *stage) network(subnet, gateway string, labelled bool) bool {
	s.t.Helper()
	options := bottleNetwork(s.spec.Slug, subnet, gateway)
	if !labelled {
		options.Labels = nil
	}
	_, err := s.engine.NetworkCreate(s.t.Context(), NetworkName(s.spec.Slug), options)
	s.must(err)
	return true
}

func (s *stage) guest(address string) {
	s.t.Helper()
	name := NetworkName(s.spec.Slug)
	networking := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{name: {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: address}}}}
	created, err := s.engine.ContainerCreate(s.t.Context(), &container.Config{Image: s.spec.image()},
		&container.HostConfig{NetworkMode: container.NetworkMode(name)}, networking, nil, s.otherName())
	s.must(err)
	s.must(s.engine.ContainerStart(s.t.Context(), created.ID, container.StartOptions{}))
}

func testNetworkStates(t *testing.T, onStage func(*testing.T, func(*stage))) {
	for _, row := range readStates(t, "network") {
		makeState := networkStates[row["state"]]
		if makeState == nil {
			continue // TestStatesAreListed tells
		}
		t.Run(row["state"]+"/up", func(t *testing.T) {
			onStage(t, func(s *stage) {
				if makeState(s) {
					s.checkNetworkUp(row.outcome("up", s.release))
				}
			})
		})
		t.Run(row["state"]+"/down", func(t *testing.T) {
			onStage(t, func(s *stage) {
				if makeState(s) {
					s.checkDown(row.outcome("down", s.release))
				}
			})
		})
	}
}

func (s *stage) checkNetworkUp(want string) {
	t := s.t
	t.Helper()
	if want == "refuse" {
		s.checkUp(actionRefuse, RecreateChanged)
		return
	}
	before := s.networks()
	s.checkUp(actionCreate, RecreateChanged)
	after := s.networks()
	if len(after) != 1 {
		t.Fatalf("networks are %v after up", after)
	}
	switch want {
	case "create":
		if len(before) != 0 {
			t.Errorf("there was %v before up", before)
		}
		if subnet, _ := addressing(after[0]); subnet != s.spec.Subnet {
			t.Errorf("subnet is %s, want %s", subnet, s.spec.Subnet)
		}
	case "adopt", "merge":
		if after[0].ID != before[0].ID || (want == "merge") != (len(before) == 2) {
			t.Errorf("network is %s, of %d before", after[0].ID, len(before))
		}
	default:
		t.Fatalf("unknown word %q", want)
	}
}
