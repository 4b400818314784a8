//go:build e2e

package bundle

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/api/types/versions"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
)

// TestStatesOnEngine makes the states of docs/states.md on a real engine. What can't be
// made there at will, such as what a crash leaves, is left to the engine in memory.
func TestStatesOnEngine(t *testing.T) {
	api, release := connect(t)
	ref := buildProgram(t, api, "states")
	var stages atomic.Int32
	onStage := func(t *testing.T, do func(*stage)) {
		t.Parallel()
		number := int(stages.Add(1))
		octet := 2*(number%100) + 9
		slug := fmt.Sprintf("%sstates-%d-x", contractPrefix, number)
		sweep(t, api, slug)
		t.Cleanup(func() { sweep(t, api, slug) })
		var warnings atomic.Int32
		s := &stage{
			t: t, engine: api, release: release,
			life: &Lifecycle{
				Engine:    api,
				LookupEnv: func(string) (string, bool) { return "", false },
				Progress: func(e Event) {
					if _, ok := e.(Warning); ok {
						warnings.Add(1)
					}
				},
			},
			spec:         Spec{Slug: slug, Image: ref, Subnet: netip.MustParsePrefix(fmt.Sprintf("10.201.%d.0/24", octet))},
			octet:        octet,
			withoutIPv4:  versions.GreaterThanOrEqualTo(api.ClientVersion(), "1.48"),
			warningCount: func() int { return int(warnings.Load()) },
		}
		if release == memengine.Docker20 {
			s.duplicate = func(name, subnet string, labels map[string]string) string {
				return duplicateNetwork(t, api, name, netip.MustParsePrefix(subnet), labels)
			}
		}
		do(s)
	}
	t.Run("container", func(t *testing.T) { testContainerStates(t, onStage) })
	t.Run("network", func(t *testing.T) { testNetworkStates(t, onStage) })
}
