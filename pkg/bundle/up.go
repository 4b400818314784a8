package bundle

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// Recreate says when up replaces a container that exists, in the words of docker compose.
type Recreate string

const (
	RecreateChanged Recreate = ""       // when its spec or its image changed
	RecreateAlways  Recreate = "always" // --force-recreate
	RecreateNever   Recreate = "never"  // --no-recreate
)

// UpOptions modify [Lifecycle.Up].
type UpOptions struct {
	Pull     PullPolicy // default: [PullMissing]
	Recreate Recreate

	// Wait makes Up return only when the bundle is healthy or, where its image has no
	// health check, has stayed up.
	Wait bool
	// WaitTimeout bounds the wait. Without a health check it is how long the bundle has
	// to stay up. Default: [DefaultWaitTimeout], or [DefaultStayUp] without a health
	// check.
	WaitTimeout time.Duration

	// LogLines is how many of its last log lines the [*DeadError] of a dead bundle
	// carries. Default: 20; negative: none.
	LogLines int
}

const (
	DefaultWaitTimeout = time.Minute
	DefaultStayUp      = 2 * time.Second
	defaultLogLines    = 20
)

// Up makes the bundle that spec describes run and describes it. It converges: a bundle
// that runs as described is left alone, one made from another spec is replaced, what is
// missing is created. What Up has created it removes again when it fails or ctx ends;
// what it found it leaves, except for a container that it had to replace. A built or
// pulled image stays.
//
// Errors, among those of the engine: [*InvalidError], *netalloc.SubnetError and
// *netalloc.ExhaustedError, [*ConflictError] for what is in the way, [*DeadError] for a
// bundle that exits, [*BusyError] when other processes keep changing the bottle.
func (l *Lifecycle) Up(ctx context.Context, spec Spec, options UpOptions) (*Bundle, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	if err := checkImage(spec.image()); err != nil {
		return nil, err
	}
	if err := l.checkSources(spec.Volumes); err != nil {
		return nil, err
	}
	run := &attempt{life: l, options: options, logLines: options.LogLines, request: request{Spec: spec}}
	if run.logLines == 0 {
		run.logLines = defaultLogLines
	}
	var up *Bundle
	err := l.retry(ctx, spec.Slug, func() (err error) {
		up, err = run.converge(ctx)
		return err
	})
	if err != nil {
		return nil, run.failed(ctx, err)
	}
	return up, nil
}

// attempt is one call of Up, over all its looks at the engine.
type attempt struct {
	life     *Lifecycle
	options  UpOptions
	logLines int
	request  request

	networkID   string // created by this call
	containerID string // created by this call
	replaced    bool   // this call has replaced a container already
	warned      bool
}

// converge looks once, decides, and acts.
func (a *attempt) converge(ctx context.Context) (*Bundle, error) {
	l, spec := a.life, a.request.Spec
	o, err := l.observe(ctx, spec.Slug, spec.image())
	if err != nil {
		return nil, err
	}
	if o.container != nil && !isBundle(*o.container, spec.Slug) && o.container.State.Status != container.StateRemoving {
		return nil, foreignContainer(spec.Slug)
	}
	var place *placement
	switch len(o.networks) {
	case 0:
		// What can't have a network gets no image built or pulled for it either.
		if err := spec.preview(o.others); err != nil {
			return nil, err
		}
	case 1:
		adopted, err := spec.adopt(o.networks[0])
		if err != nil {
			return nil, err
		}
		place = &adopted
	default:
		// Whether the container is in its place can be told when there is one again.
		return nil, l.removeDuplicates(ctx, spec.Slug, o.networks)
	}
	policy := a.options.Pull
	if a.request.imageID != "" {
		policy = PullMissing // one pull or build a call is enough
	}
	found, err := l.provideImage(ctx, spec.Slug, spec.image(), policy, o.image, o.noImage)
	if err != nil {
		return nil, err
	}
	if a.request, err = newRequest(spec, found, l.lookupEnv); err != nil {
		return nil, err
	}
	a.warnUnset()

	recreate := a.options.Recreate
	if recreate == RecreateAlways && (a.replaced || a.containerID != "") {
		recreate = RecreateChanged // what is there now is not what was there at first
	}
	s := classify(a.request, o.container, place, recreate)
	switch decide(s, recreate) {
	case actionKeep:
		return a.keep(ctx, *o.container, *place)
	case actionUnpause:
		return a.unpause(ctx, *o.container)
	case actionStart:
		return a.start(ctx, o.container.ID, *place)
	case actionAwait:
		return nil, a.again(l.awaitRemoval(ctx, spec.Slug, o.container.ID))
	case actionReplace:
		if a.replaced {
			return nil, &BusyError{Slug: spec.Slug, Err: fmt.Errorf("the container that was just created is %s", s)}
		}
		a.replaced = true
		return nil, a.again(l.stopContainer(ctx, spec.Slug, *o.container, nil))
	case actionCreate:
		if place == nil {
			p, isNew, err := l.placeNetwork(ctx, spec, o.networks, o.others)
			if isNew {
				a.networkID = p.networkID
			}
			if err != nil {
				return nil, err
			}
			place = &p
		}
		return a.create(ctx, *place)
	}
	return nil, &ConflictError{
		Object: "container " + ContainerName(spec.Slug),
		Reason: "is not in network " + NetworkName(spec.Slug) + " at its address",
		Remedy: "let it be replaced by leaving --no-recreate out",
	}
}

// again makes the caller look anew after a step that is only half of the way.
func (a *attempt) again(err error) error {
	if err != nil {
		return err
	}
	return &contention{fmt.Errorf("container %s is being replaced: %w", ContainerName(a.request.Slug), errdefs.ErrConflict)}
}

func (a *attempt) warnUnset() {
	if a.warned {
		return
	}
	a.warned = true
	for _, name := range a.request.unset {
		a.life.warn(a.request.Slug, "environment variable %s is not set, and so is not set in the bundle", name)
	}
}

// create creates the container and starts it.
func (a *attempt) create(ctx context.Context, place placement) (*Bundle, error) {
	l, slug := a.life, a.request.Slug
	hostIP, err := l.chooseHostIP(ctx, a.request.Spec)
	if err != nil {
		return nil, err
	}
	config, host, networking := a.request.container(place.address, hostIP, l.Engine.ClientVersion())
	step := Step{Slug: slug, Action: "Create container", Object: ContainerName(slug)}
	err = l.step(step, func() error {
		var response container.CreateResponse
		err := effect(ctx, func(ctx context.Context) (err error) {
			response, err = l.Engine.ContainerCreate(ctx, config, host, networking, nil, ContainerName(slug))
			return err
		})
		switch {
		case errdefs.IsConflict(err), errdefs.IsNotFound(err), isOutside(err):
			// The name, or the image or network, changed hands since they were looked at.
			return &contention{fmt.Errorf("create container %s: %w", ContainerName(slug), err)}
		case isUnpinnable(err): // Docker 25 to 28 say so already now
			return a.unpinnable(place)
		case err != nil:
			a.findLost(ctx)
			return fmt.Errorf("create container %s: %w", ContainerName(slug), err)
		}
		a.containerID = response.ID
		for _, warning := range response.Warnings {
			l.warn(slug, "container %s: %s", ContainerName(slug), warning)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.start(ctx, a.containerID, place)
}

// findLost looks for a container that was created although the engine's answer to that
// got lost, so that it is removed again.
func (a *attempt) findLost(ctx context.Context) {
	ctx, stop := cleanupContext(ctx)
	defer stop()
	found, err := a.life.findContainer(ctx, a.request.Slug)
	if err == nil && found != nil && found.State.Status == container.StateCreated && a.request.matches(*found) {
		a.containerID = found.ID
	}
}

// start starts a container that was created, and watches its first moments.
func (a *attempt) start(ctx context.Context, id string, place placement) (*Bundle, error) {
	l, slug := a.life, a.request.Slug
	watch := a.watch(ctx, id, false)
	defer watch.close()
	step := Step{Slug: slug, Action: "Start container", Object: ContainerName(slug)}
	err := l.step(step, func() error {
		began := time.Now()
		err := effect(ctx, func(ctx context.Context) error {
			return l.Engine.ContainerStart(ctx, id, container.StartOptions{})
		})
		watch.startTook = time.Since(began)
		if err != nil {
			return a.explainStart(ctx, id, place, fmt.Errorf("start container %s: %w", ContainerName(slug), err))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	found, err := a.settle(ctx, watch)
	if err != nil {
		return nil, err
	}
	if !isPlaced(found, slug, place) {
		return nil, &contention{fmt.Errorf("container %s started outside of its place: %w", ContainerName(slug), errdefs.ErrConflict)}
	}
	return describe(a.request, found, place), nil
}

// explainStart sorts out why the engine did not start a container.
func (a *attempt) explainStart(ctx context.Context, id string, place placement, err error) error {
	slug := a.request.Slug
	switch {
	case isEndpointTaken(err):
		return a.life.freeStale(ctx, slug, id, place, err)
	case isAddressTaken(err):
		return a.life.explainTaken(ctx, slug, id, place, err)
	case isUnpinnable(err):
		return a.unpinnable(place)
	case isHostAddressMissing(err):
		return fmt.Errorf("%w: the engine's host has no such address; a further loopback address may have to be added to its lo0 first", err)
	case isHostPortTaken(err) && !a.request.fixesHostPort():
		// The engine chose a port that something else on the host uses, often the near
		// end of an outgoing connection. It will choose another.
		return &contention{err}
	case errdefs.IsNotFound(err), errdefs.IsConflict(err), isAmbiguous(err), isOutside(err):
		// The container or its network was removed or made anew, or is about to be.
		return &contention{err}
	}
	return err
}

// unpinnable is the error of a network in which the engine pins no addresses.
func (a *attempt) unpinnable(place placement) error {
	return &ConflictError{
		Object: "network " + NetworkName(a.request.Slug),
		Reason: fmt.Sprintf("was created without a subnet of its own, so the engine can't pin the bundle's address %s in it", place.address),
		Remedy: fmt.Sprintf("remove it (docker bottle down %s) and let it be created", a.request.Slug),
	}
}

func (a *attempt) keep(ctx context.Context, found container.InspectResponse, place placement) (*Bundle, error) {
	if a.options.Wait {
		watch := a.watch(ctx, found.ID, true)
		defer watch.close()
		waited, err := a.settle(ctx, watch)
		if err != nil {
			return nil, err
		}
		found = waited
	}
	return describe(a.request, found, place), nil
}

func (a *attempt) unpause(ctx context.Context, found container.InspectResponse) (*Bundle, error) {
	slug := a.request.Slug
	step := Step{Slug: slug, Action: "Unpause container", Object: ContainerName(slug)}
	return nil, a.again(a.life.step(step, func() error {
		err := a.life.Engine.ContainerUnpause(ctx, found.ID)
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) && !isNotPaused(err) {
			return fmt.Errorf("unpause container %s: %w", ContainerName(slug), err)
		}
		return nil
	}))
}

// failed undoes the call and returns its error with that of the clean-up, if any.
func (a *attempt) failed(ctx context.Context, err error) error {
	if undone := a.undo(ctx); undone != nil {
		return fmt.Errorf("%w; what was created is left behind (docker bottle down %s removes it): %w", err, a.request.Slug, undone)
	}
	return err
}

// undo removes what this call has created, even when the call's own context has ended.
// Others may have joined the network meanwhile; then it is theirs.
func (a *attempt) undo(ctx context.Context) error {
	ctx, stop := cleanupContext(ctx)
	defer stop()
	slug := a.request.Slug
	var failed error // the first: what comes after it most likely failed for the same reason
	if a.containerID != "" {
		failed = a.life.removeContainer(ctx, slug, a.containerID)
	}
	if a.networkID != "" {
		err := a.life.Engine.NetworkRemove(ctx, a.networkID)
		if err != nil && !errdefs.IsNotFound(err) && !isEndpointActive(err) && failed == nil {
			failed = fmt.Errorf("remove network %s: %w", NetworkName(slug), err)
		}
	}
	return failed
}
