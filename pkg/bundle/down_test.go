package bundle

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/google/go-cmp/cmp"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
)

func TestDownLeavesANetworkWithGuests(t *testing.T) {
	onReleases(t, func(w *world) {
		up := w.up(Spec{Slug: "demo"})
		w.run("guest-b", up.Network)
		w.run("guest-a", up.Network)
		w.down("demo")
		want := []string{"network bot-bottle-bundle-demo is left in place: it is still used by guest-a, guest-b"}
		if diff := cmp.Diff(want, w.warnings()); diff != "" {
			w.t.Error(diff)
		}
		found, err := w.admin.NetworkInspect(w.t.Context(), up.NetworkID, network.InspectOptions{})
		if err != nil || len(found.Containers) != 2 {
			w.t.Errorf("network has %v, error %v", found.Containers, err)
		}
		// The bundle comes back to the same place.
		if again := w.up(Spec{Slug: "demo"}); again.NetworkID != up.NetworkID || again.Address != up.Address {
			w.t.Errorf("bundle is at %s of %s", again.Address, again.NetworkID)
		}
	})
}

func TestDownFreesAStaleEndpoint(t *testing.T) {
	onReleases(t, func(w *world) {
		id := w.createNetwork("bot-bottle-bundle-demo", bottleNetwork("demo", "10.201.1.0/24", ""))
		if err := w.engine.LeaveEndpoint(id, "bot-bottle-sidecars-demo", netip.MustParseAddr("10.201.1.2")); err != nil {
			w.t.Fatal(err)
		}
		w.down("demo")
		if left := w.objects(); len(left) > 0 {
			w.t.Errorf("down leaves %v", left)
		}
	})
}

func TestDownWaitsForTheEndOfTheContainer(t *testing.T) {
	onReleases(t, func(w *world) {
		up := w.up(Spec{Slug: "demo"})
		if err := w.admin.ContainerStop(w.t.Context(), up.ContainerID, container.StopOptions{}); err != nil {
			w.t.Fatal(err)
		}
		if status := w.inspect(up.ContainerID).State.Status; status != container.StateRemoving {
			w.t.Fatalf("container is %s", status)
		}
		w.down("demo")
		if left := w.objects(); len(left) > 0 {
			w.t.Errorf("down leaves %v", left)
		}
	})
}

func TestDownRefusesAForeignContainer(t *testing.T) {
	inWorld(t, memengine.Docker29, func(w *world) {
		w.createNetwork("bot-bottle-bundle-demo", bottleNetwork("demo", "10.201.1.0/24", ""))
		w.run("bot-bottle-sidecars-demo", "default")
		before := w.objects()
		for name, do := range map[string]func() error{
			"down": func() error { return w.life.Down(w.t.Context(), "demo", DownOptions{}) },
			"stop": func() error { return w.life.Stop(w.t.Context(), "demo", nil) },
		} {
			var conflict *ConflictError
			if err := do(); !errors.As(err, &conflict) {
				w.t.Errorf("%s: error is %v, want a *ConflictError", name, err)
			}
		}
		if diff := cmp.Diff(before, w.objects()); diff != "" {
			w.t.Error(diff)
		}
	})
}

func TestDownTellsAnEnginesError(t *testing.T) {
	for method, want := range map[string]string{
		"NetworkList":      "list networks: ",
		"ContainerInspect": "inspect container bot-bottle-sidecars-demo: ",
		"ContainerStop":    "stop container bot-bottle-sidecars-demo: ",
		"ContainerRemove":  "remove container bot-bottle-sidecars-demo: ",
		"NetworkRemove":    "remove network bot-bottle-bundle-demo: ",
	} {
		t.Run(method, func(t *testing.T) {
			inWorld(t, memengine.Docker29, func(w *world) {
				w.up(Spec{Slug: "demo", Isolation: Isolation{Restart: container.RestartPolicy{Name: "always"}}})
				w.client.Intercept = answer(method, memengine.Internal("something went wrong"))
				err := w.life.Down(w.t.Context(), "demo", DownOptions{})
				if err == nil || !strings.HasPrefix(err.Error(), want) || errorClass(err) != "internal" {
					w.t.Errorf("error is %v, want %q", err, want)
				}
				w.client.Intercept = nil
				w.down("demo")
			})
		})
	}
}

func TestPrimitives(t *testing.T) {
	onReleases(t, func(w *world) {
		ctx, life := w.t.Context(), w.life
		spec := Spec{Slug: "demo", Subnet: netip.MustParsePrefix("10.201.1.0/24")}
		if _, err := life.Start(ctx, spec); errorClass(err) != "not found" {
			w.t.Errorf("start without a network: %v", err)
		}
		id, subnet, gateway, err := life.CreateNetwork(ctx, spec)
		if err != nil || subnet != spec.Subnet || gateway.String() != "10.201.1.1" {
			w.t.Fatalf("network %s, gateway %s, error %v", subnet, gateway, err)
		}
		if again, _, _, err := life.CreateNetwork(ctx, spec); err != nil || again != id {
			w.t.Errorf("a second time: network %s, error %v", again, err)
		}
		started, err := life.Start(ctx, spec)
		if err != nil || w.inspect(started).Name != "/bot-bottle-sidecars-demo" {
			w.t.Fatalf("container %s, error %v", started, err)
		}
		var conflict *ConflictError
		if _, err := life.Start(ctx, spec); !errors.As(err, &conflict) {
			w.t.Errorf("start twice: %v", err)
		}
		for range 2 {
			if err := life.Stop(ctx, "demo", nil); err != nil {
				w.t.Error(err)
			}
		}
		for range 2 {
			if err := life.RemoveNetwork(ctx, "demo"); err != nil {
				w.t.Error(err)
			}
		}
		if left := w.objects(); len(left) > 0 {
			w.t.Errorf("left are %v", left)
		}
	})
}

func TestStartRemovesWhatItCouldNotStart(t *testing.T) {
	inWorld(t, memengine.Docker29, func(w *world) {
		spec := Spec{Slug: "demo", Env: []string{"SCRIPT=exit 5"}}
		if _, _, _, err := w.life.CreateNetwork(w.t.Context(), spec); err != nil {
			w.t.Fatal(err)
		}
		var dead *DeadError
		if _, err := w.life.Start(w.t.Context(), spec); !errors.As(err, &dead) || dead.ExitCode != 5 {
			w.t.Errorf("error is %v", err)
		}
		time.Sleep(time.Second)
		if left := w.objects(); len(left) != 1 || !strings.HasPrefix(left[0], "network bot-bottle-bundle-demo") {
			w.t.Errorf("left are %v", left)
		}
	})
}

func TestList(t *testing.T) {
	onReleases(t, func(w *world) {
		one := w.up(Spec{Slug: "one", Ports: []Port{{ContainerPort: 80}}})
		if _, _, _, err := w.life.CreateNetwork(w.t.Context(), Spec{Slug: "two", Subnet: netip.MustParsePrefix("10.201.1.0/24")}); err != nil {
			w.t.Fatal(err)
		}
		w.createNetwork("lan", bottleNetwork("", "10.202.1.0/24", ""))
		list, err := w.life.List(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		want := []Summary{
			{Slug: "one", State: "running", Status: "running", Image: DefaultImage, Address: one.Address, Subnet: one.Subnet, Ports: one.Ports},
			{Slug: "two", Subnet: netip.MustParsePrefix("10.201.1.0/24")},
		}
		if diff := cmp.Diff(want, list, byValue); diff != "" {
			w.t.Error(diff)
		}
	})
}

func TestBusyBottle(t *testing.T) {
	inWorld(t, memengine.Docker29, func(w *world) {
		// The name is always just taken, and nobody ever has it.
		w.client.Intercept = answer("ContainerCreate", fmt.Errorf("name in use: %w", errdefs.ErrConflict))
		_, err := w.life.Up(w.t.Context(), Spec{Slug: "demo"}, UpOptions{})
		var busy *BusyError
		if !errors.As(err, &busy) || !strings.Contains(err.Error(), "somebody else is changing this bottle") {
			w.t.Errorf("error is %v", err)
		}
		if n := w.client.Counts()["ContainerCreate"]; n != retries {
			w.t.Errorf("%d attempts, want %d", n, retries)
		}
		if left := w.objects(); len(left) > 0 {
			w.t.Errorf("up leaves %v", left)
		}
	})
}
