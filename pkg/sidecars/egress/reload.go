package egress

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"
)

// policy is the rules in force and the kept connections that were made under
// them.
type policy struct {
	rules     *rules
	transport *http.Transport
}

func (p *Proxy) newPolicy(r *rules) *policy {
	return &policy{rules: r, transport: p.newTransport(r)}
}

// Reload reads the allowlist file again and puts the new rules into force.
// Tunnels and requests that they still allow go on; the others are ended. With
// an error nothing changes.
func (p *Proxy) Reload(ctx context.Context) error {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := loadRules(p.cfg)
	if err != nil {
		p.metrics.reloadFailures.Add(1)
		return fmt.Errorf("allowlist not reloaded, the old one stays in force: %w", err)
	}
	old := p.policy.Swap(p.newPolicy(r))
	old.transport.CloseIdleConnections()
	p.metrics.reloads.Add(1)
	p.metrics.rules.Store(int64(r.count))
	ended := 0
	for _, x := range p.open() {
		if !x.allowedBy(r) {
			x.revoke()
			ended++
		}
	}
	p.logf("allowlist reloaded: %d entries, %d open connections ended", r.count, ended)
	return nil
}

// defaultPollInterval is how often the allowlist file is looked at.
const defaultPollInterval = 2 * time.Second

// watch reloads when the allowlist file changes, until ctx is done. It polls:
// inotify watches an inode, and the ways in which such a file changes (rename
// over it, a bind mount's other side, a symlink switched in a mounted volume)
// each replace the inode or happen where no event is delivered.
//
// A change is taken up when the file looks the same twice in a row, because a
// file that is being written could end in the middle of a name.
func (p *Proxy) watch(ctx context.Context) {
	if p.cfg.AllowFile == "" {
		return
	}
	interval := p.cfg.pollInterval
	if interval == 0 {
		interval = defaultPollInterval
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	inForce := p.loadedFile
	last := inForce
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := fileState(p.cfg.AllowFile)
		settled := now.same(last)
		last = now
		if !settled || now.same(inForce) {
			continue
		}
		inForce = now
		if err := p.Reload(ctx); err != nil && ctx.Err() == nil {
			p.logf("%v", err)
		}
	}
}

// fileStamp identifies a file's content without reading it.
type fileStamp struct {
	info os.FileInfo // nil when the file cannot be found
}

func fileState(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{info}
}

func (s fileStamp) same(other fileStamp) bool {
	if s.info == nil || other.info == nil {
		return s.info == nil && other.info == nil
	}
	return os.SameFile(s.info, other.info) && s.info.Size() == other.info.Size() &&
		s.info.ModTime().Equal(other.info.ModTime())
}
