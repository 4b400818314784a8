package bundle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
)

// Whatever request of an up fails, and however: nothing stays, and the next up succeeds.
func TestUpSurvivesAFaultInEveryRequest(t *testing.T) {
	kinds := []string{"500", "cut", "500 after", "cut after", "cancel", "cancel before"}
	for _, release := range releases {
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("docker%d/%s", release, kind), func(t *testing.T) {
				struck := 0
				for call := 1; ; call++ {
					hit := false
					inWorld(t, release, func(w *world) {
						ctx, cancel := context.WithCancelCause(context.Background())
						defer cancel(nil)
						w.client.Intercept = func(_ context.Context, c memengine.Call) memengine.Weather {
							weather := memengine.Weather{Before: time.Millisecond}
							if c.N == call {
								hit = true
								fault{call, kind}.strike(&weather, cancel)
							}
							return weather
						}
						_, err := w.life.Up(ctx, Spec{Slug: "demo"}, UpOptions{})
						time.Sleep(time.Minute)
						if left := w.objects(); err != nil && len(left) > 0 && !strings.Contains(err.Error(), "left behind") {
							w.t.Errorf("request %d: up fails with %v and leaves %v", call, err, left)
						}
						w.client.Intercept = nil
						w.up(Spec{Slug: "demo"})
						w.down("demo")
						if left := w.objects(); len(left) > 0 {
							w.t.Errorf("request %d: down leaves %v", call, left)
						}
					})
					if !hit {
						break
					}
					struck++
				}
				if struck < 8 {
					t.Errorf("only %d requests were struck", struck)
				}
			})
		}
	}
}

// Two ups that find a bundle paused both let it go on; one comes second.
func TestUpsUnpauseTogether(t *testing.T) {
	onReleases(t, func(w *world) {
		up := w.up(Spec{Slug: "demo"})
		if err := w.admin.ContainerPause(w.t.Context(), up.ContainerID); err != nil {
			w.t.Fatal(err)
		}
		w.client.Intercept = func(_ context.Context, c memengine.Call) memengine.Weather {
			if c.Method == "ContainerUnpause" {
				_ = w.admin.ContainerUnpause(w.t.Context(), up.ContainerID) // the other is quicker
			}
			return memengine.Weather{}
		}
		if again := w.up(Spec{Slug: "demo"}); again.ContainerID != up.ContainerID {
			w.t.Error("the container was replaced")
		}
	})
}

// The network is made anew with another subnet while up creates the container.
func TestUpMovesWithItsNetwork(t *testing.T) {
	for _, method := range []string{"ContainerCreate", "ContainerStart"} {
		t.Run(method, func(t *testing.T) {
			onReleases(t, func(w *world) {
				w.createNetwork("bot-bottle-bundle-demo", bottleNetwork("demo", "10.201.1.0/24", ""))
				w.client.Intercept = func(_ context.Context, c memengine.Call) memengine.Weather {
					if c.Method == method && w.client.Counts()[method] == 1 {
						if err := w.admin.NetworkRemove(w.t.Context(), "bot-bottle-bundle-demo"); err != nil {
							w.t.Error(err)
						}
						w.createNetwork("bot-bottle-bundle-demo", bottleNetwork("demo", "10.201.2.0/24", ""))
					}
					return memengine.Weather{}
				}
				if up := w.up(Spec{Slug: "demo"}); up.Address.String() != "10.201.2.2" {
					w.t.Errorf("address is %s", up.Address)
				}
			})
		})
	}
}

// Docker 20.10 reserves a subnet before it lists the network that has it.
func TestUpsOfOneSubnet(t *testing.T) {
	subnet := netip.MustParsePrefix("10.201.1.0/24")
	for _, other := range []string{"demo", "other"} {
		t.Run(other, func(t *testing.T) {
			onReleases(t, func(w *world) {
				var ups sync.WaitGroup
				errs := make([]error, 2)
				for i, slug := range []string{"demo", other} {
					ups.Go(func() {
						time.Sleep(time.Duration(i) * time.Millisecond)
						_, errs[i] = w.life.Up(w.t.Context(), Spec{Slug: slug, Subnet: subnet}, UpOptions{})
					})
				}
				ups.Wait()
				if errs[0] != nil {
					w.t.Error(errs[0])
				}
				var conflict *ConflictError
				if other == "demo" && errs[1] != nil || other != "demo" && !errors.As(errs[1], &conflict) {
					w.t.Errorf("the second ends with %v", errs[1])
				}
			})
		})
	}
}

func TestManyUpsOfOneBottle(t *testing.T) {
	onReleases(t, func(w *world) {
		var ups sync.WaitGroup
		results := make([]*Bundle, 32)
		for i := range results {
			ups.Go(func() {
				client := w.engine.Client()
				client.Intercept = func(_ context.Context, c memengine.Call) memengine.Weather {
					return memengine.Weather{Before: time.Duration(1+(i*31+c.N*17)%97) * 100 * time.Microsecond}
				}
				life := &Lifecycle{Engine: client, LookupEnv: noEnv}
				up, err := life.Up(w.t.Context(), Spec{Slug: "demo"}, UpOptions{})
				if err != nil {
					w.t.Errorf("up %d: %v", i, err)
				}
				results[i] = up
			})
		}
		ups.Wait()
		if left := w.objects(); len(left) != 2 {
			w.t.Errorf("there are %v", left)
		}
		for i, up := range results {
			if up != nil && up.ContainerID != w.inspect("bot-bottle-sidecars-demo").ID {
				w.t.Errorf("up %d tells of container %s", i, up.ContainerID)
			}
		}
	})
}
