// Package sidecars shows the default bundle, and the example that adds pipelock to it, at
// work on a real engine: built and brought up with the plugin, and used by guests that are
// containers. Its tests are compiled in with the build tag e2e:
//
//	go test -tags e2e -v ./e2e/sidecars
//
// The programs in testdata are pipelock's stand-in, which connects by way of the proxy that
// its environment names, if any, and a peer: the server that guests ask for, and the guests.
//
// Containers, networks and images have names of the run's own (dbpl-…, docker-bottle-pl-…)
// and are removed, also when a test fails; subnets of bottles come from 10.211.0.0/16.
package sidecars
