// Package pipeline is one build: the visible ordered list of steps from a
// darksite and a template to a finished, checked image. Each step takes what
// the one before left in the build and says in one line what it did.
//
// It holds no policy of its own: what a tree, a seal or a disk is, their rooms
// know.
package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kldload/kldload/internal/cache"
	"github.com/kldload/kldload/internal/darksite"
	"github.com/kldload/kldload/internal/disk"
	"github.com/kldload/kldload/internal/distro"
	"github.com/kldload/kldload/internal/evidence"
	"github.com/kldload/kldload/internal/machine"
	"github.com/kldload/kldload/internal/sandbox"
	"github.com/kldload/kldload/internal/template"
	"github.com/kldload/kldload/internal/tree"
	"github.com/kldload/kldload/internal/ui"
)

// Options of a build beside its template.
type Options struct {
	UI    *ui.UI
	Cache *cache.Cache
	// Force replaces an output folder that exists.
	Force bool
	// Abort keeps the work folder of a build that breaks (-on-error=abort).
	Abort bool
	// Epoch is SOURCE_DATE_EPOCH; zero takes the darksite's.
	Epoch time.Time
	// Accel chooses the accelerator of the boot; "" probes.
	Accel machine.Accel
	// Inputs are the template's effective variables as JSON, secrets masked;
	// they are part of the result.
	Inputs json.RawMessage
	// Files are what was read for the template in the folder TemplateDir; they
	// and Version, of kldload, are part of the provenance.
	Files       []template.Input
	TemplateDir string
	Version     string
	// SignKey is the file with the key that signs; "" takes the template's, or
	// the user's own.
	SignKey string
	// Sensitive are the values that must not be in the image.
	Sensitive []template.Secret
	// Now is the clock of the manifest's times.
	Now func() time.Time
}

// step is one line of what a build shows.
type step struct {
	name string
	run  func(ctx context.Context, s *ui.Stage) (outcome, error)
}

// outcome is what a step says when it is done.
type outcome struct {
	detail string
	cached bool
}

// build is the state that the steps hand on.
type build struct {
	opts Options
	spec template.Build
	src  template.Kldload

	site    *darksite.Darksite
	kernel  darksite.Kernel
	install distro.Install
	epoch   time.Time
	ids     disk.Identity

	work    *cache.Work
	entry   *cache.Entry     // the tree without this build's changes
	overlay *sandbox.Overlay // shows it with them at root; nil when root is a copy

	root  string // the tree
	tmp   string // its /tmp while provisioning
	apt   string // its /run/kldload while provisioning
	stats tree.Stats

	key    *evidence.Key    // nil until the user's own is made
	inputs []evidence.Input // what provisioners read

	raw    string // the disk, before formats
	places []*place
	report machine.Report
	result Result
}

// Run makes the image of one build. What it returns is complete: on an error
// nothing stands under a final name.
func Run(ctx context.Context, spec template.Build, opts Options) (*Result, error) {
	b := &build{opts: opts, spec: spec, src: *spec.Source.Kldload}
	b.result.Name, b.result.Variables = spec.ID(), opts.Inputs
	if !b.src.SkipBoot { // a wrong checks file must not cost a build
		if _, err := b.smokeChecks(); err != nil {
			return nil, err
		}
	}
	if err := b.openKey(); err != nil {
		return nil, err
	}
	if _, err := b.scanOptions(); err != nil {
		return nil, err
	}
	if err := b.planOutputs(); err != nil {
		return nil, err
	}
	if err := b.open(); err != nil {
		return nil, errors.Join(err, b.dropPlaces())
	}
	err := b.runSteps(ctx)
	return &b.result, errors.Join(err, b.cleanUp(err))
}

// steps is the build, in order.
func (b *build) steps() []step {
	steps := []step{
		{"darksite", b.openDarksite},
		{"tree", b.makeTree},
		{"configure", b.configure},
	}
	for i := range b.spec.Provisioners {
		p := b.spec.Provisioners[i]
		steps = append(steps, step{"provision", func(ctx context.Context, s *ui.Stage) (outcome, error) {
			return b.provision(ctx, s, i, p)
		}})
	}
	steps = append(steps,
		step{"seal", b.seal},
		step{"disk", b.makeDisk},
		step{"verify", b.verify},
		step{"scan", b.scan},
		step{"formats", b.formats},
	)
	if !b.src.SkipBoot {
		steps = append(steps, step{"boot", b.boot})
	}
	return append(steps, step{"evidence", b.evidence}, step{"publish", b.publish})
}

func (b *build) runSteps(ctx context.Context) error {
	for _, st := range b.steps() {
		if ctx.Err() != nil {
			return fmt.Errorf("before step %q: %w", st.name, context.Cause(ctx))
		}
		stage := b.opts.UI.Stage(st.name)
		out, err := st.run(ctx, stage)
		if err != nil {
			b.result.Stages = append(b.result.Stages, Stage{Name: st.name, Seconds: stage.Fail().Seconds()})
			return err
		}
		done := stage.Done
		if out.cached {
			done = stage.Cached
		}
		b.result.Stages = append(b.result.Stages, Stage{Name: st.name, Detail: out.detail, Cached: out.cached, Seconds: done(out.detail).Seconds()})
	}
	return nil
}

// open takes a work folder and removes those of builds that were killed.
func (b *build) open() error {
	if err := sweep(b.opts.Cache); err != nil {
		return err
	}
	work, err := b.opts.Cache.NewWork("build")
	if err != nil {
		return err
	}
	b.work = work
	b.root, b.tmp, b.apt = filepath.Join(work.Dir, "root"), filepath.Join(work.Dir, "tmp"), filepath.Join(work.Dir, "apt")
	for _, dir := range []string{b.root, b.tmp, b.apt} {
		if err := makeDir(dir); err != nil {
			return errors.Join(err, b.work.Remove(RemoveTree))
		}
	}
	return os.Chmod(b.tmp, 0o777|os.ModeSticky)
}

// makeDir makes a folder that the tree shows: the caller's umask must not
// reach the image.
func makeDir(dir string) error {
	return errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755))
}

// keptFor is how long -on-error=abort's folders survive the next builds.
const keptFor = 7 * 24 * time.Hour

// keptMark tells a folder that was kept on purpose.
const keptMark = "KEPT"

func sweep(c *cache.Cache) error {
	stale, err := c.Stale()
	if err != nil {
		return err
	}
	for dir, age := range stale {
		if _, err := os.Stat(filepath.Join(dir, keptMark)); err == nil && age < keptFor {
			continue
		}
		if err := errors.Join(RemoveTree(dir), os.RemoveAll(dir+".lock")); err != nil {
			return fmt.Errorf("removing what a killed build left: %w", err)
		}
	}
	return nil
}

// RemoveTree deletes a folder with files of a sandbox's ids.
func RemoveTree(dir string) error {
	return sandbox.Run(context.Background(), sandbox.Job{Doing: "removing " + dir, Call: fnRemove, Arg: dir})
}

// cleanUp removes what the build used, except the tree of a broken one that
// is to be looked at.
func (b *build) cleanUp(failed error) error {
	err := b.dropPlaces()
	if failed != nil && b.opts.Abort && b.hasTree() && !errors.Is(failed, context.Canceled) {
		return errors.Join(err, b.keepTree())
	}
	if b.entry != nil {
		err = errors.Join(err, b.entry.Release())
	}
	return errors.Join(err, b.work.Remove(RemoveTree))
}

// hasTree tells whether there is anything to look at.
func (b *build) hasTree() bool {
	_, err := os.Stat(b.fresh())
	return b.entry != nil || err == nil
}

// keepTree leaves the tree as a plain folder.
func (b *build) keepTree() error {
	root := b.root
	var err error
	if b.entry == nil {
		root = b.fresh()
	} else if b.overlay != nil {
		root = filepath.Join(b.work.Dir, "tree")
		err = makeDir(root)
		if err == nil {
			pack := b.onTree(sandbox.Job{Call: fnPack, Arg: packArg{b.root, time.Now().Unix()}})
			err = copyTree(context.Background(), pack, root)
		}
	}
	if b.entry != nil {
		err = errors.Join(err, b.entry.Release())
	}
	mark := os.WriteFile(filepath.Join(b.work.Dir, keptMark), []byte("kept by -on-error=abort\n"), 0o644)
	kept := fmt.Errorf("the tree is kept: -on-error=abort left it in %s  (remove: kldload cache prune)", root)
	return errors.Join(kept, err, mark, b.work.Keep())
}
