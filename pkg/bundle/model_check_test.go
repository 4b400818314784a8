package bundle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/network"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

// checkError says whether an act may end with an error.
func (m *model) checkError(a act, err error) {
	var busy *BusyError
	var conflict *ConflictError
	var dead *DeadError
	var exhausted *netalloc.ExhaustedError
	switch {
	case err == nil:
	case a.fault.call > 0:
		if a.fault.kind == "delay" && !errors.As(err, &busy) && !errors.As(err, &conflict) && !errors.As(err, &dead) {
			m.complain("%s: %v", a, err)
		}
	case errors.As(err, &busy) && len(m.plan.clients) > 1:
	case errors.As(err, &exhausted):
	case errors.As(err, &conflict) && m.plan.has("foreign", "network", "up"):
		// A container in the way, or a subnet: the fixed one may be used by another bottle.
		if a.kind == "down" && !m.plan.has("foreign") {
			m.complain("%s: %v", a, err)
		}
	case errors.As(err, &dead) && a.kind == "up" && (a.variant == 3 || len(m.plan.clients) > 1 && m.plan.has("kill", "restart")):
	case len(m.plan.clients) > 1 && m.plan.has("restart") && strings.Contains(err.Error(), "unexpected EOF"):
	default:
		m.complain("%s: %v", a, err)
	}
}

// checkUndone checks that a failed up, undisturbed by other clients, leaves nothing that
// was not there before. A bundle that was there may have been replaced.
func (m *model) checkUndone(a act, before []string, err error) {
	if strings.Contains(err.Error(), "left behind") && a.fault.call > 0 && !strings.HasPrefix(a.fault.kind, "cancel") {
		return // the clean-up was what failed, and the error says so
	}
	time.Sleep(time.Minute) // whatever is still under way ends
	for _, object := range m.objects() {
		if !slices.Contains(before, object) {
			m.complain("%s failed and left %s: %v", a, object, err)
		}
	}
	own := 0
	for _, object := range before {
		if strings.HasPrefix(object, "network "+NetworkName(a.slug)+" ") {
			own++
		}
	}
	for _, object := range before {
		// Of two networks of the bottle's name, one goes, and that is as it should be.
		spare := own > 1 && strings.HasPrefix(object, "network "+NetworkName(a.slug)+" ")
		if strings.HasPrefix(object, "network ") && !spare && !slices.Contains(m.objects(), object) {
			m.complain("%s failed and removed %s: %v", a, object, err)
		}
	}
}

// checkForeign checks that whatever others made is still there.
func (m *model) checkForeign(when string) {
	present := map[string]bool{}
	for _, object := range m.objects() {
		fields := strings.Fields(object)
		present[fields[0]+" "+fields[2]] = true
	}
	for key, name := range m.foreign {
		kind, id, _ := strings.Cut(key, " ")
		if !present[fmt.Sprintf("%s %.12s", kind, id)] {
			m.complain("%s: %s %s of somebody else is gone", when, kind, name)
		}
	}
}

// checkNames checks that no two networks have one name, and no two overlap.
func (m *model) checkNames(when string) {
	all, err := m.admin.NetworkList(context.Background(), network.ListOptions{})
	if err != nil {
		m.complain("%s: %v", when, err)
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.Name == b.Name {
				m.complain("%s: two networks %s", when, a.Name)
			}
			for _, p := range subnets([]network.Summary{a}) {
				if slices.ContainsFunc(subnets([]network.Summary{b}), p.Overlaps) {
					m.complain("%s: networks %s and %s overlap", when, a.Name, b.Name)
				}
			}
		}
	}
}

// settle brings every bottle up and down undisturbed.
func (m *model) settle() {
	ctx := context.Background()
	for _, slug := range modelSlugs {
		spec := modelSpec(slug, 1, m.pool)
		up, err := m.life.Up(ctx, spec, UpOptions{})
		var conflict *ConflictError
		if m.plan.has("foreign") && errors.As(err, &conflict) && strings.Contains(err.Error(), "is no bundle") {
			continue
		}
		if err != nil {
			m.complain("undisturbed up of %s: %v", slug, err)
			continue
		}
		found := m.inspect(ContainerName(slug))
		e := found.NetworkSettings.Networks[NetworkName(slug)]
		if !found.State.Running || found.State.Paused || e == nil || e.IPAddress != netalloc.Bundle(up.Subnet).String() || !slices.Contains(found.Config.Env, "MODE=other") {
			m.complain("undisturbed up of %s: state %+v, endpoint %+v", slug, found.State, e)
		}
		if len(found.HostConfig.PortBindings) > 0 {
			m.complain("undisturbed up of %s: ports of another spec are published", slug)
		}
		image, err := m.admin.ImageInspect(ctx, DefaultImage)
		if err != nil || found.Image != image.ID {
			m.complain("undisturbed up of %s: image is %s, want %s, %v", slug, found.Image, image.ID, err)
		}
		calls := m.client.Calls()
		again, err := m.life.Up(ctx, spec, UpOptions{})
		if err != nil || again.ContainerID != up.ContainerID {
			m.complain("second up of %s: container %v, error %v", slug, again, err)
		}
		if made := m.client.Calls() - calls; made != 3 {
			m.complain("second up of %s: %d requests, want 3", slug, made)
		}
	}
	if !m.plan.has("foreign") { // which stops up before it gets to the networks
		m.checkNames("after up")
	}
	m.checkForeign("after up")
	for _, slug := range modelSlugs {
		m.dismissGuests(slug)
		err := m.life.Down(ctx, slug, DownOptions{})
		var conflict *ConflictError
		if m.plan.has("foreign") && errors.As(err, &conflict) {
			continue
		}
		if err != nil {
			m.complain("undisturbed down of %s: %v", slug, err)
		}
		for _, object := range m.objects() {
			fields := strings.Fields(object)
			if fields[1] == NetworkName(slug) || fields[1] == ContainerName(slug) {
				m.complain("down of %s left %s", slug, object)
			}
		}
	}
	m.checkForeign("after down")
}
