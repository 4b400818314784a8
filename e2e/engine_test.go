//go:build e2e && unix

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
)

// pool is what the scripts' bottles take their subnets from; the other half of
// 10.213.0.0/16 is for the subnets that scripts name themselves.
const pool = "10.213.0.0/17"

// freeNets returns the first three octets of the /24 subnets of 10.213.128.0/17 that no
// network has, from a random one on, so that runs at the same time rarely meet.
func freeNets(ctx context.Context, engine *client.Client) ([]string, error) {
	networks, err := engine.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return nil, err
	}
	var taken []netip.Prefix
	for _, n := range networks {
		for _, config := range n.IPAM.Config {
			if prefix, err := netip.ParsePrefix(config.Subnet); err == nil {
				taken = append(taken, prefix)
			}
		}
	}
	var free []string
	start := rand.IntN(128)
	for i := range 128 {
		octets := fmt.Sprintf("10.213.%d", 128+(start+i)%128)
		subnet := netip.MustParsePrefix(octets + ".0/24")
		if !slices.ContainsFunc(taken, subnet.Overlaps) {
			free = append(free, octets)
		}
	}
	return free, nil
}

// resources lists what the engine has whose name or label contains a text.
func (s *suite) resources(ctx context.Context, text string) ([]string, error) {
	containers, err := s.engine.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	networks, err := s.engine.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return nil, err
	}
	images, err := s.engine.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, c := range containers {
		if strings.Contains(strings.Join(c.Names, " ")+c.Labels[bundle.LabelSlug], text) {
			lines = append(lines, fmt.Sprintf("container %s %s", strings.TrimPrefix(c.Names[0], "/"), c.State))
		}
	}
	for _, n := range networks {
		if strings.Contains(n.Name+n.Labels[bundle.LabelSlug], text) {
			lines = append(lines, "network "+n.Name)
		}
	}
	for _, i := range images {
		for _, tag := range i.RepoTags {
			if strings.Contains(tag, text) {
				lines = append(lines, "image "+tag)
			}
		}
	}
	slices.Sort(lines)
	return lines, nil
}

// remove removes everything that resources lists.
func (s *suite) remove(ctx context.Context, text string) error {
	found, err := s.resources(ctx, text)
	if err != nil {
		return err
	}
	var errs []error
	// Their order is right: containers before images, and before networks.
	for _, line := range found {
		kind, rest, _ := strings.Cut(line, " ")
		name, _, _ := strings.Cut(rest, " ")
		switch kind {
		case "container":
			err = s.engine.ContainerRemove(ctx, name, container.RemoveOptions{Force: true, RemoveVolumes: true})
			if errdefs.IsConflict(err) { // its removal is under way
				err = nil
			}
			if err == nil {
				err = s.gone(ctx, name)
			}
		case "network":
			err = s.engine.NetworkRemove(ctx, name)
		case "image":
			_, err = s.engine.ImageRemove(ctx, name, image.RemoveOptions{PruneChildren: true})
		}
		if err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// gone returns when a container is not there any more.
func (s *suite) gone(ctx context.Context, name string) error {
	removed, failed := s.engine.ContainerWait(ctx, name, container.WaitConditionRemoved)
	select {
	case <-removed:
		return nil
	case err := <-failed:
		return err
	}
}

// appearance returns what docker inspect shows of a bundle and its network, without what
// differs between any two: names, subnets, IDs, times, host ports. It also leaves out what
// the plugin does on purpose beyond the docker command: it labels what it makes, and
// reserves the lower half of the subnet.
func (s *suite) appearance(ctx context.Context, name string) (map[string]any, error) {
	slug := strings.TrimPrefix(name, "bot-bottle-sidecars-")
	c, rawContainer, err := s.engine.ContainerInspectWithRaw(ctx, name, false)
	if err != nil {
		return nil, err
	}
	found, rawNetwork, err := s.engine.NetworkInspectWithRaw(ctx, bundle.NetworkName(slug), network.InspectOptions{})
	if err != nil {
		return nil, err
	}
	prefix, err := netip.ParsePrefix(found.IPAM.Config[0].Subnet)
	if err != nil {
		return nil, err
	}
	octets := strings.TrimSuffix(prefix.Addr().String(), ".0")
	look := map[string]any{}
	for kind, raw := range map[string][]byte{"container": rawContainer, "network": rawNetwork} {
		text := strings.NewReplacer(slug, "SLUG", c.ID[:12], "ID").Replace(string(raw))
		text = regexp.MustCompile(`\b`+regexp.QuoteMeta(octets)+`\.`).ReplaceAllString(text, "NET.")
		var object map[string]any
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			return nil, err
		}
		look[kind] = object
	}
	shown := look["container"].(map[string]any)
	drop(shown, "Id", "Created", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "GraphDriver", "Storage", "ImageManifestDescriptor")
	drop(shown["State"], "Pid", "StartedAt")
	drop(shown["Config"], "Hostname")
	drop(shown["NetworkSettings"], "SandboxID", "SandboxKey")
	for _, endpoint := range at(shown, "NetworkSettings", "Networks") {
		drop(endpoint, "NetworkID", "EndpointID", "MacAddress", "DNSNames")
	}
	for _, bindings := range at(shown, "NetworkSettings", "Ports") {
		for _, binding := range bindings.([]any) {
			drop(binding, "HostPort")
		}
	}
	drop(look["network"], "Id", "Created", "Containers", "Status")
	for _, config := range at(look, "network", "IPAM")["Config"].([]any) {
		drop(config, "IPRange")
	}
	for _, labels := range []map[string]any{at(shown, "Config", "Labels"), at(look, "network", "Labels")} {
		maps.DeleteFunc(labels, func(name string, _ any) bool { return strings.HasPrefix(name, "bot-bottle.") })
	}
	// The docker command keeps its -e and -v in no order.
	sortBy(at(shown, "Config")["Env"], func(entry any) string { return entry.(string) })
	sortBy(at(shown, "HostConfig")["Binds"], func(bind any) string { return bind.(string) })
	sortBy(shown["Mounts"], func(mount any) string { return mount.(map[string]any)["Destination"].(string) })
	prune(look)
	return look, nil
}

// prune removes what is empty: where one client sends an empty list, another sends none.
func prune(object map[string]any) {
	maps.DeleteFunc(object, func(_ string, value any) bool {
		switch v := value.(type) {
		case map[string]any:
			prune(v)
			return len(v) == 0
		case []any:
			return len(v) == 0
		}
		return value == nil
	})
}

func sortBy(list any, key func(any) string) {
	slices.SortFunc(list.([]any), func(a, b any) int { return strings.Compare(key(a), key(b)) })
}

func drop(object any, keys ...string) {
	for _, key := range keys {
		delete(object.(map[string]any), key)
	}
}

func at(object map[string]any, keys ...string) map[string]any {
	for _, key := range keys {
		object, _ = object[key].(map[string]any)
	}
	return object
}
