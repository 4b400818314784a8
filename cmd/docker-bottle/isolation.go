package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/container"
	"github.com/spf13/pflag"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
)

// isolationOptions are the flags of docker run that limit a container.
type isolationOptions struct {
	readOnly    bool
	capAdd      []string
	capDrop     []string
	securityOpt []string
	user        string
	memory      opts.MemBytes
	cpus        opts.NanoCPUs
	pidsLimit   int64
	ulimits     *opts.UlimitOpt
	tmpfs       []string
	restart     string
}

func (o *isolationOptions) addFlags(flags *pflag.FlagSet) {
	o.ulimits = opts.NewUlimitOpt(nil)
	flags.BoolVar(&o.readOnly, "read-only", false, "Mount the bundle's root filesystem as read only (default true for the default image)")
	flags.Var(opts.NewListOptsRef(&o.capAdd, nil), "cap-add", "Add Linux capabilities")
	flags.Var(opts.NewListOptsRef(&o.capDrop, nil), "cap-drop", "Drop Linux capabilities (default ALL for the default image)")
	flags.Var(opts.NewListOptsRef(&o.securityOpt, nil), "security-opt", "Security options (default no-new-privileges for the default image)")
	flags.StringVarP(&o.user, "user", "u", "", "Username or UID (format: NAME|UID[:GROUP|GID])")
	flags.VarP(&o.memory, "memory", "m", "Memory limit")
	flags.Var(&o.cpus, "cpus", "Number of CPUs")
	flags.Int64Var(&o.pidsLimit, "pids-limit", 0, "Tune the bundle's pids limit (set -1 for unlimited)")
	flags.Var(o.ulimits, "ulimit", "Ulimit options")
	flags.Var(opts.NewListOptsRef(&o.tmpfs, nil), "tmpfs", "Mount a tmpfs directory: PATH[:OPTION,...]")
	flags.StringVar(&o.restart, "restart", string(container.RestartPolicyDisabled), "Restart policy to apply when the bundle exits; with one, the engine keeps a stopped container")
}

func (o *isolationOptions) isolation(flags *pflag.FlagSet) (bundle.Isolation, error) {
	isolation := bundle.Isolation{
		CapAdd:    o.capAdd,
		CapDrop:   o.capDrop,
		User:      o.user,
		Memory:    o.memory.Value(),
		NanoCPUs:  o.cpus.Value(),
		PidsLimit: o.pidsLimit,
		Ulimits:   o.ulimits.GetList(),
	}
	if flags.Changed("read-only") {
		isolation.ReadOnly = &o.readOnly
	}
	for _, option := range o.securityOpt {
		option, err := readSecurityOpt(option)
		if err != nil {
			return isolation, err
		}
		isolation.SecurityOpt = append(isolation.SecurityOpt, option)
	}
	for _, mount := range o.tmpfs {
		if isolation.Tmpfs == nil {
			isolation.Tmpfs = map[string]string{}
		}
		path, options, _ := strings.Cut(mount, ":")
		isolation.Tmpfs[path] = options
	}
	restart, err := opts.ParseRestartPolicy(o.restart)
	if err != nil {
		return isolation, err
	}
	isolation.Restart = restart
	return isolation, nil
}

// readSecurityOpt replaces the file name of a seccomp profile by what the file says: the
// engine may not have the file.
func readSecurityOpt(option string) (string, error) {
	name, value, found := strings.Cut(option, "=")
	if !found && name != "no-new-privileges" {
		return "", &bundle.InvalidError{Field: "security option", Value: option, Reason: "want NAME=VALUE"}
	}
	if name != "seccomp" || value == "unconfined" || value == "builtin" {
		return option, nil
	}
	profile, err := os.ReadFile(value)
	if err != nil {
		return "", fmt.Errorf("seccomp profile: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, profile); err != nil {
		return "", fmt.Errorf("seccomp profile %s: %w", value, err)
	}
	return "seccomp=" + compact.String(), nil
}
