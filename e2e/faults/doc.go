// Package faults shows that up, down and build keep their promises while things go wrong:
// on a real engine, with the plugin's own processes, and each situation made for real. Its
// tests are compiled in with the build tag e2e, on Linux:
//
//	go test -tags e2e -v ./e2e/faults
//
// What goes wrong is of five kinds:
//
//   - a request fails: a proxy before the engine's socket answers it with an error, cuts it
//     off before or after its effect, or delays it. It does so to each request of a command
//     in turn, and what is left is looked at after each.
//   - the plugin is interrupted or killed at each of its requests.
//   - the engine is killed at each of them, and started again. It is an engine of the test's
//     own, with a network namespace of its own, which takes root's rights and a dockerd.
//   - several processes want different things of one bottle, or the same subnets.
//   - the bundle itself dies, at once or a little later.
//
// Every test prints what it tried, and how often. Containers, networks and images have
// names of the run's own (flt-…) and are removed, also when a test fails; what the engine
// has of others is not touched, which is one of the things that are checked.
package faults
