//go:build e2e && unix

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

// BenchmarkUp compares the whole time of "docker bottle up" with that of the three
// commands that it replaces, with the default bundle's image at hand, in alternating runs on
// one engine.
func BenchmarkUp(b *testing.B) {
	s := benchSuite(b)
	environ := append(os.Environ(), s.dockerEnv(filepath.Join(s.dir, "config"))...)
	docker := func(args ...string) time.Duration {
		began := time.Now()
		if _, err := output(b.Context(), environ, "docker", args...); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	image := "docker-bottle-e2e-" + s.run + "-default"
	docker("bottle", "build", "-q", "-t", image)
	ours, theirs := "e2e-"+s.run+"-ours", "e2e-"+s.run+"-theirs"
	net := s.nets[0]
	var up, reference []time.Duration
	for b.Loop() {
		up = append(up, docker("bottle", "up", "--image", image, "--subnet", net+".0/24", ours))
		docker("bottle", "down", ours)

		took := docker("network", "create", "--subnet", net+".0/24", "--gateway", net+".1", "bot-bottle-bundle-"+theirs)
		took += docker("run", "--name", "bot-bottle-sidecars-"+theirs, "--detach", "--rm", "--network", "bot-bottle-bundle-"+theirs,
			"--ip", net+".2", "-e", "BOT_BOTTLE_SIDECAR_DAEMONS=egress", "-p", "127.0.0.1::3128", image)
		took += docker("port", "bot-bottle-sidecars-"+theirs, "3128/tcp")
		reference = append(reference, took)
		docker("bottle", "down", theirs)
	}
	b.ReportMetric(median(up).Seconds()*1000, "up-ms")
	b.ReportMetric(median(reference).Seconds()*1000, "reference-ms")
	b.ReportMetric(median(up).Seconds()/median(reference).Seconds(), "up/reference")
}

// BenchmarkMetadata measures the call that docker makes of every plugin whenever it lists
// its commands.
func BenchmarkMetadata(b *testing.B) {
	s := benchSuite(b)
	var times []time.Duration
	var peak int64
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), s.plugin, "docker-cli-plugin-metadata")
		began := time.Now()
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(began))
		usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		if !ok {
			b.Fatalf("no resource usage on %s", runtime.GOOS)
		}
		peak = max(peak, usage.Maxrss) // KiB on Linux
	}
	b.ReportMetric(median(times).Seconds()*1000, "ms/call")
	b.ReportMetric(float64(peak)/1024, "peak-MiB")
}

func benchSuite(b *testing.B) *suite {
	s, err := newSuite(b.Context())
	b.Cleanup(func() {
		if err := s.close(); err != nil {
			b.Error(err)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
