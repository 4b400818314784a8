// Package bundle brings a bottle's bundle up and down on a Docker engine.
//
// A bottle is one isolated agent environment, named by a slug. Its bundle is the one
// container that carries all of its sidecar daemons, at a pinned address of a bridge
// network that belongs to that bottle alone. This package turns a [Spec] into a running
// [Bundle] and back into nothing:
//
//	life := &bundle.Lifecycle{Engine: apiClient}
//	b, err := life.Up(ctx, bundle.Spec{Slug: "demo"}, bundle.UpOptions{})
//	...
//	err = life.Down(ctx, "demo", bundle.DownOptions{})
//
// [Lifecycle.Up] and [Lifecycle.Down] converge: they look at what the engine has, decide,
// act, and look again, so that running them twice, from several machines at once, or after
// a crash leads to the same state. The steps they are built from can be called one by one:
// [Lifecycle.EnsureImage], [Lifecycle.CreateNetwork], [Lifecycle.RemoveNetwork],
// [Lifecycle.Start], [Lifecycle.Stop] and [Lifecycle.HostPort].
//
// All state is on the engine, in names and labels. The package keeps none, prints nothing
// and knows no terminal: progress is reported as typed [Event] values.
package bundle
