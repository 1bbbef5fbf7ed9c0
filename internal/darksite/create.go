package darksite

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/distro"
	"github.com/kldload/kldload/internal/ui"
)

// Create makes o.Output hold exactly what o asks for and gives its lock. A
// darksite that does already, every package hashed, is left as it is unless
// o.Update is set. An interrupted run is resumed by the next. With o.DryRun
// the lock names what would be mirrored; the ZFS modules, not compiled yet,
// have no size and no digest.
func Create(ctx context.Context, o CreateOptions) (*Lock, error) {
	q, err := newRequest(o)
	if err != nil {
		return nil, err
	}
	unlock, err := q.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := q.checkOutput(); err != nil {
		return nil, err
	}
	if l := q.complete(ctx); l != nil {
		return l, nil
	}
	u, err := q.openUpstream(ctx)
	if err != nil {
		return nil, err
	}
	defer u.Close()
	l, want, err := q.resolve(ctx, u)
	if err != nil || q.DryRun {
		return l, err
	}
	if err := q.assemble(ctx, u, l, want); err != nil {
		return nil, err
	}
	return l, q.swap()
}

// lock keeps two creations of one output apart.
func (q *request) lock() (unlock func(), err error) {
	dir := filepath.Join(q.CacheDir, "locks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(q.Output))
	name := filepath.Join(dir, fmt.Sprintf("darksite-%x", sum[:8]))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking %q: %w", q.Output, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%q is being made by another kldload", q.Output)
	}
	return func() { f.Close() }, nil
}

// checkOutput refuses to replace a folder that is no darksite.
func (q *request) checkOutput() error {
	left, err := os.ReadDir(q.Output)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(left) > 0 && !exists(filepath.Join(q.Output, lockName)) {
		return fmt.Errorf("output %q: a folder with other things in it, and no %s\nhint: name a new or an empty folder", q.Output, lockName)
	}
	return nil
}

// complete gives the output's lock if it holds what is asked for, whole.
func (q *request) complete(ctx context.Context) *Lock {
	if q.Update || q.DryRun || !exists(q.Output) {
		return nil
	}
	d, err := Open(q.Output)
	if err != nil || !q.satisfiedBy(d.Lock) {
		return nil
	}
	st := q.UI.Stage("hash")
	if err := errors.Join(hashAll(ctx, st, q.Output, d.Lock), strays(q.Output, d.Lock)); err != nil {
		st.Done("damaged, to be repaired: " + strings.ReplaceAll(err.Error(), "\n", "; "))
		return nil
	}
	st.Cached(fmt.Sprintf("%d packages, %s, already complete", len(d.Lock.Packages), ui.Bytes(d.Lock.Size())))
	return d.Lock
}

// satisfiedBy tells whether a lock was made for the same request.
func (q *request) satisfiedBy(l *Lock) bool {
	want := q.newLock()
	var flavours []string
	for _, k := range l.Kernels {
		flavours = append(flavours, k.Flavour)
	}
	return l.Distro == want.Distro && l.Release == want.Release && l.Arch == want.Arch &&
		reflect.DeepEqual(l.Profiles, want.Profiles) && reflect.DeepEqual(l.Optional, want.Optional) &&
		slices.Equal(l.Extra, want.Extra) && slices.Equal(flavours, q.Kernels)
}

// resolve finds every package of the closure, per profile and kernel.
func (q *request) resolve(ctx context.Context, u *upstream) (l *Lock, want []remote, err error) {
	st := q.UI.Stage("resolve")
	defer func() {
		if err != nil {
			st.Fail()
		}
	}()
	l = q.newLock()
	l.Epoch = u.epoch
	if err := u.checkNames(ctx, q.Release, q.allEntries()); err != nil {
		return nil, nil, err
	}
	if l.Kernels, err = q.findKernels(ctx, u); err != nil {
		return nil, nil, err
	}
	set := map[string]remote{}
	for _, c := range l.combinations() {
		st.Progress(0, 0, c.what)
		ours := func(name string) bool { return strings.HasPrefix(name, "zfs-modules-") }
		if err := u.resolve(ctx, set, c.what, slices.DeleteFunc(slices.Clone(c.names), ours)); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range sortedKeys(set) {
		want = append(want, set[name])
		l.Packages = append(l.Packages, set[name].Package)
	}
	st.Done(fmt.Sprintf("%d packages, %s: %s", len(want), ui.Bytes(l.Size()), strings.Join(l.ProfileNames(), ", ")))
	return l, want, nil
}

// allEntries lists every package that is asked for by name.
func (q *request) allEntries() []distro.Entry {
	entries := slices.Clone(q.extra)
	for _, m := range []map[string][]distro.Entry{q.profiles, q.optional} {
		for _, es := range slices.Collect(maps.Values(m)) {
			entries = append(entries, es...)
		}
	}
	return entries
}

// staging is where a darksite is put together.
func (q *request) staging() string { return q.Output + ".partial" }

// assemble makes the whole darksite in staging and proves it.
func (q *request) assemble(ctx context.Context, u *upstream, l *Lock, want []remote) error {
	dir := q.staging()
	if err := os.MkdirAll(filepath.Join(dir, "pool"), 0o755); err != nil {
		return fmt.Errorf("making %q: %w", dir, err)
	}
	key, err := signingKey(q.SigningKey)
	if err != nil {
		return err
	}
	if err := q.fetch(ctx, u, want); err != nil {
		return err
	}
	entries, err := u.entries(ctx, want)
	if err != nil {
		return err
	}
	for _, k := range l.Kernels {
		deb, err := q.modules(ctx, u, k)
		if err != nil {
			return err
		}
		p, entry, err := addDeb(ctx, dir, deb)
		if err != nil {
			return err
		}
		l.Packages = append(l.Packages, p)
		entries[p.Filename] = entry
	}
	if err := errors.Join(prune(dir, l), removeEmpty(dir)); err != nil {
		return err
	}
	if err := writeIndex(dir, l, entries, key); err != nil {
		return fmt.Errorf("writing the index: %w", err)
	}
	_, err = Verify(ctx, dir, q.UI)
	return err
}

func (q *request) fetch(ctx context.Context, u *upstream, want []remote) error {
	old := ""
	if exists(filepath.Join(q.Output, lockName)) {
		old = q.Output
	}
	st := q.UI.Stage("fetch")
	n, err := u.fetch(ctx, st, q.staging(), old, want)
	if err != nil {
		st.Fail()
		return fmt.Errorf("fetching: %w\nhint: what arrived is kept; the same command goes on from here", err)
	}
	if err := os.RemoveAll(filepath.Join(q.staging(), fetchDir)); err != nil {
		return err
	}
	st.Done(fmt.Sprintf("%s of %d packages, digests verified", ui.Bytes(n), len(want)))
	return nil
}

// swap gives staging its final name; what was there before is removed after.
func (q *request) swap() error {
	if !exists(q.Output) {
		if err := os.MkdirAll(filepath.Dir(q.Output), 0o755); err != nil {
			return err
		}
		return os.Rename(q.staging(), q.Output)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, q.staging(), unix.AT_FDCWD, q.Output, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("exchanging %q and %q: %w", q.staging(), q.Output, err)
	}
	return os.RemoveAll(q.staging())
}
