package bundle

import (
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/versions"
)

// Isolation says what a bundle's container may do and use, in the terms of docker run's
// flags. The zero value leaves everything to the engine, except for [DefaultImage], whose
// daemons need nothing: its root file system is read-only, it has no capabilities and
// gains no privileges, unless the fields say otherwise.
type Isolation struct {
	ReadOnly    *bool               `json:",omitempty"` // mount the root file system read-only; nil: the default
	CapAdd      []string            `json:",omitempty"` // capabilities to add, such as "NET_ADMIN"
	CapDrop     []string            `json:",omitempty"` // capabilities to drop, or "ALL"; empty: the default
	SecurityOpt []string            `json:",omitempty"` // in the engine's form; a seccomp profile is given by its content
	User        string              `json:",omitempty"` // name or number, with an optional group after a colon
	Memory      int64               `json:",omitempty"` // limit in bytes
	NanoCPUs    int64               `json:",omitempty"` // limit in billionths of a CPU
	PidsLimit   int64               `json:",omitempty"` // limit of processes and threads; -1 for none
	Ulimits     []*container.Ulimit `json:",omitempty"`
	Tmpfs       map[string]string   `json:",omitempty"` // mount options by path in the container
	// Restart is when the engine starts the container again. With any policy but "no",
	// the engine keeps the container when it stops.
	Restart container.RestartPolicy `json:",omitzero"`
}

const noNewPrivileges = "no-new-privileges"

// withDefaults adds what the default image can be run with.
func (i Isolation) withDefaults(isDefault bool) Isolation {
	if i.Restart.Name == "" {
		i.Restart.Name = container.RestartPolicyDisabled
	}
	if !isDefault {
		return i
	}
	if i.ReadOnly == nil {
		yes := true
		i.ReadOnly = &yes
	}
	if len(i.CapDrop) == 0 {
		i.CapDrop = []string{"ALL"}
	}
	if !slices.ContainsFunc(i.SecurityOpt, func(opt string) bool { return strings.HasPrefix(opt, noNewPrivileges) }) {
		i.SecurityOpt = append(slices.Clone(i.SecurityOpt), noNewPrivileges)
	}
	return i
}

func (i Isolation) check() error {
	if err := container.ValidateRestartPolicy(i.Restart); err != nil {
		return &InvalidError{Field: "restart policy", Value: string(i.Restart.Name), Reason: strings.TrimPrefix(err.Error(), "invalid restart policy: ")}
	}
	if i.Memory < 0 || i.NanoCPUs < 0 {
		return &InvalidError{Field: "limit", Value: "negative", Reason: "memory and CPUs are limited to a positive amount"}
	}
	for path := range i.Tmpfs {
		if !strings.HasPrefix(path, "/") {
			return &InvalidError{Field: "tmpfs", Value: path, Reason: "the path in the container is not absolute"}
		}
	}
	return nil
}

// apply sets the isolation on what the engine is asked to create.
func (i Isolation) apply(config *container.Config, host *container.HostConfig) {
	config.User = i.User
	host.ReadonlyRootfs = i.ReadOnly != nil && *i.ReadOnly
	host.CapAdd = i.CapAdd
	host.CapDrop = i.CapDrop
	host.SecurityOpt = i.SecurityOpt
	host.Memory = i.Memory
	host.NanoCPUs = i.NanoCPUs
	if i.PidsLimit != 0 {
		host.PidsLimit = &i.PidsLimit
	}
	host.Ulimits = i.Ulimits
	host.Tmpfs = i.Tmpfs
	host.RestartPolicy = i.Restart
	// The engine refuses both at once, as docker run does.
	host.AutoRemove = i.Restart.IsNone()
}

const (
	// startIntervalVersion is the first API version that knows a start interval.
	startIntervalVersion = "1.44"
	// startPeriod is how long a bundle's health is looked at often; failures do not
	// count within it.
	startPeriod = 10 * time.Second
	// startInterval is how often.
	startInterval = 100 * time.Millisecond
	// laterInterval is how often it is looked at afterwards: every check is a process
	// that the engine starts, and there may be fifty bundles.
	laterInterval = 5 * time.Second
)

// quickHealth makes an engine that can do so check a bundle's health often in its first
// moments and seldom afterwards. The rest of the check is the image's own. Only images that say to be bundles
// are meant, and only those that do not set this themselves.
func quickHealth(found image.InspectResponse, apiVersion string) *container.HealthConfig {
	if found.Config == nil || found.Config.Healthcheck == nil || found.Config.Labels[LabelDaemons] == "" {
		return nil
	}
	check := found.Config.Healthcheck
	if check.StartPeriod != 0 || check.StartInterval != 0 || versions.LessThan(apiVersion, startIntervalVersion) {
		return nil
	}
	return &container.HealthConfig{StartPeriod: startPeriod, StartInterval: startInterval, Interval: laterInterval}
}
