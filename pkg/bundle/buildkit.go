package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"

	buildtypes "github.com/docker/docker/api/types/build"
	"github.com/docker/docker/pkg/jsonmessage"
	controlapi "github.com/moby/buildkit/api/services/control"
	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/util/staticfs"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
	"golang.org/x/sync/errgroup"
)

// clientSession is the remote context that tells the engine to ask the client's session
// for the files of a build.
const clientSession = "client-session"

// traceMessage is the ID of the messages in which the engine passes BuildKit's progress on.
const traceMessage = "moby.buildkit.trace"

// buildKit builds over a session: a connection on which the engine asks the client for
// files, credentials and secrets while the build runs.
func (l *Lifecycle) buildKit(ctx context.Context, step Step, options BuildOptions) (string, error) {
	local, err := session.NewSession(ctx, "")
	if err != nil {
		return "", err
	}
	request := buildtypes.ImageBuildOptions{
		Version:    buildtypes.BuilderBuildKit,
		SessionID:  local.ID(),
		BuildID:    identity.NewID(),
		Tags:       options.Tags,
		BuildArgs:  options.BuildArgs,
		Target:     options.Target,
		NoCache:    options.NoCache,
		PullParent: options.Pull,
		Remove:     true,
		Dockerfile: options.Dockerfile,
	}
	if options.Remote != "" {
		request.RemoteContext = options.Remote
	} else {
		dirs, dockerfile, err := syncedDirs(options)
		if err != nil {
			return "", err
		}
		request.RemoteContext = clientSession
		request.Dockerfile = dockerfile
		local.Allow(filesync.NewFSSyncProvider(dirs))
	}
	for _, service := range []session.Attachable{options.Secrets, options.Auth} {
		if service != nil {
			local.Allow(service)
		}
	}

	var id string
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return local.Run(groupCtx, func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return l.Engine.DialHijack(ctx, "/session", proto, meta)
		})
	})
	group.Go(func() error {
		defer local.Close()
		response, err := l.Engine.ImageBuild(groupCtx, nil, request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		id, err = readBuild(response.Body, func(message jsonmessage.JSONMessage) error {
			return l.forwardTrace(step, message)
		})
		return err
	})
	err = group.Wait()
	if err != nil {
		// Engines may go on building after the client hung up.
		cleanup, stop := cleanupContext(ctx)
		defer stop()
		_ = l.Engine.BuildCancel(cleanup, request.BuildID)
		return "", err
	}
	return id, nil
}

func (l *Lifecycle) forwardTrace(step Step, message jsonmessage.JSONMessage) error {
	if message.ID != traceMessage || message.Aux == nil {
		return nil
	}
	var encoded []byte
	if err := json.Unmarshal(*message.Aux, &encoded); err != nil {
		return fmt.Errorf("read BuildKit's progress: %w", err)
	}
	var status controlapi.StatusResponse
	if err := status.UnmarshalVT(encoded); err != nil {
		return fmt.Errorf("read BuildKit's progress: %w", err)
	}
	l.emit(BuildStatus{Step: step, Status: buildkit.NewSolveStatus(&status)})
	return nil
}

// syncedDirs returns the directories that the build asks for by name, and the
// Dockerfile's name in its own.
func syncedDirs(options BuildOptions) (filesync.StaticDirSource, string, error) {
	if options.Files != nil {
		files, err := staticFiles(options.Files)
		if err != nil {
			return nil, "", err
		}
		dockerfile := options.Dockerfile
		if dockerfile == "" {
			dockerfile = "Dockerfile"
		}
		return filesync.StaticDirSource{"context": files, "dockerfile": files}, dockerfile, nil
	}
	path, err := dockerfilePath(options.Dir, options.Dockerfile)
	if err != nil {
		return nil, "", err
	}
	contextFS, err := anonymousDir(options.Dir)
	if err != nil {
		return nil, "", err
	}
	dockerfileFS, err := anonymousDir(filepath.Dir(path))
	if err != nil {
		return nil, "", err
	}
	return filesync.StaticDirSource{"context": contextFS, "dockerfile": dockerfileFS}, filepath.Base(path), nil
}

// anonymousDir serves a directory with its files owned by root: a context is the same
// whoever sends it.
func anonymousDir(dir string) (fsutil.FS, error) {
	files, err := fsutil.NewFS(dir)
	if err != nil {
		return nil, err
	}
	return fsutil.NewFilterFS(files, &fsutil.FilterOpt{
		Map: func(_ string, stat *fstypes.Stat) fsutil.MapResult {
			stat.Uid, stat.Gid = 0, 0
			return fsutil.MapResultKeep
		},
	})
}

// staticFiles copies the regular files of a file system's top level.
func staticFiles(files fs.FS) (fsutil.FS, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, err
	}
	static := staticfs.NewFS()
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("build context: %s is not a regular file", entry.Name())
		}
		file, err := files.Open(entry.Name())
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(file)
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
		static.Add(entry.Name(), &fstypes.Stat{
			Mode:    uint32(info.Mode()),
			ModTime: info.ModTime().UnixNano(),
		}, content)
	}
	return static, nil
}
