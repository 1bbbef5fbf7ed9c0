package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kldload/kldload/internal/boot"
	"github.com/kldload/kldload/internal/cache"
	"github.com/kldload/kldload/internal/darksite"
	"github.com/kldload/kldload/internal/disk"
	"github.com/kldload/kldload/internal/distro"
	"github.com/kldload/kldload/internal/run"
	"github.com/kldload/kldload/internal/sandbox"
	"github.com/kldload/kldload/internal/tree"
	"github.com/kldload/kldload/internal/ui"
	"github.com/kldload/kldload/internal/zpool"
)

// openDarksite checks the mirror and settles everything that follows from it.
func (b *build) openDarksite(_ context.Context, s *ui.Stage) (outcome, error) {
	s.Progress(0, 0, "checking "+b.src.Darksite)
	site, err := darksite.Open(b.src.Darksite)
	if err != nil {
		return outcome{}, err
	}
	if want := b.src.DarksiteDigest; want != "" && want != site.Digest() {
		return outcome{}, fmt.Errorf("opening darksite %q: its lock is %s: the template wants %s", b.src.Darksite, site.Digest(), want)
	}
	l := site.Lock
	if l.Distro != b.src.Distro || l.Release != b.src.Release {
		return outcome{}, fmt.Errorf("opening darksite %q: it holds %s %s: the template wants %s %s", b.src.Darksite, l.Distro, l.Release, b.src.Distro, b.src.Release)
	}
	if b.kernel, err = l.Kernel(b.src.Kernel); err != nil {
		return outcome{}, fmt.Errorf("%w\nhint: kldload darksite create --kernel %s … adds it", err, b.src.Kernel)
	}
	packages, err := b.packages(l)
	if err != nil {
		return outcome{}, err
	}
	b.site = site
	b.epoch = b.opts.Epoch
	if b.epoch.IsZero() {
		b.epoch = time.Unix(l.Epoch, 0)
	}
	b.install = distro.Install{
		Repository: site.RepoDir(), Key: site.KeyPath(), Release: l.Release, Packages: packages,
		Kernel: b.kernel.ABI, Locale: b.src.Locale, Epoch: b.epoch,
	}
	b.ids = disk.NewIdentity(strings.Join([]string{site.Digest(), b.spec.ID(), b.src.VMName, fmt.Sprint(b.epoch.Unix())}, "\x00"))
	b.result.Darksite, b.result.Epoch = site.Digest(), b.epoch.Unix()
	return outcome{detail: fmt.Sprintf("%s  %d packages  %s  signature good", b.src.Darksite, len(l.Packages), short(site.Digest()))}, nil
}

// packages are what the image starts from: the profile, exactly the pinned
// kernel with its modules (not the meta package, whose next version has none),
// what a root on ZFS needs, and what the template adds.
func (b *build) packages(l *darksite.Lock) ([]string, error) {
	var optional []string
	if b.src.Storage == boot.ZFS {
		if b.kernel.ZFSModules.Package == "" {
			return nil, fmt.Errorf("storage \"zfs\": the darksite has no ZFS modules for kernel %s\nhint: make a new one with kldload darksite create, or set storage = \"ext4\"", b.kernel.ABI)
		}
		optional = []string{distro.ZFSRoot}
	}
	names, err := l.Install(b.src.Profile, "", optional...)
	if err != nil {
		return nil, fmt.Errorf("%w\nhint: kldload darksite create --profile %s … adds it", err, b.src.Profile)
	}
	names = append(names, b.kernel.Package)
	if m := b.kernel.ZFSModules.Package; m != "" {
		names = append(names, m)
	}
	have := map[string]bool{}
	for _, p := range l.Packages {
		have[p.Name] = true
	}
	for _, extra := range b.src.ExtraPackages {
		if !have[extra] {
			return nil, fmt.Errorf("extra_packages: the darksite has no package %q\nhint: kldload darksite create --extra-package %s …", extra, extra)
		}
	}
	names = append(names, b.src.ExtraPackages...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

func short(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return "sha256:" + hex[:min(12, len(hex))] + "…"
}

// makeTree installs the packages, or takes the tree of an earlier build with
// the same ones. Either way the tree stays in the cache as it is, and the
// build works on an overlay of it.
func (b *build) makeTree(ctx context.Context, s *ui.Stage) (outcome, error) {
	key := cache.Key(append([]string{b.site.Digest()}, b.install.CacheInputs()...)...)
	cached, err := b.takeTree(ctx, s, key)
	if err == nil && !cached {
		if err = b.bootstrap(ctx, s); err == nil {
			err = b.storeTree(ctx, s, key)
		}
	}
	if err != nil {
		return outcome{}, err
	}
	var meta treeMeta
	if err := json.Unmarshal(b.entry.Meta, &meta); err != nil {
		return outcome{}, fmt.Errorf("reading the description of the cached tree: %w", err)
	}
	detail := fmt.Sprintf("%d packages, %d files, %s", meta.Packages, meta.Stats.Entries, ui.Bytes(meta.Stats.Bytes))
	return outcome{detail: detail, cached: cached}, b.attachTree(ctx)
}

// takeTree looks for the tree in the cache and hashes all of it. A damaged one
// is removed.
func (b *build) takeTree(ctx context.Context, s *ui.Stage, key string) (bool, error) {
	entry, err := b.opts.Cache.Take(key)
	if errors.Is(err, cache.ErrMiss) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	sum, err := b.hashTree(ctx, s, entry.Root, "verifying the cached tree")
	if err == nil && sum.SHA256 == entry.SHA256 {
		b.entry = entry
		return true, nil
	}
	if err = errors.Join(err, entry.Release()); err != nil {
		return false, fmt.Errorf("%w\nhint: kldload cache prune makes the next build start anew", err)
	}
	s.Log("the cached tree is damaged: building it again")
	_, err = b.opts.Cache.Remove(key, RemoveTree)
	return false, err
}

// hashTree gives the digest of a tree's stream.
func (b *build) hashTree(ctx context.Context, s *ui.Stage, root, note string) (sum treeSum, err error) {
	s.Progress(0, 0, note)
	err = sandbox.Call(ctx, sandbox.Job{Doing: note, Call: fnHash, Arg: packArg{root, b.epoch.Unix()}}, &sum)
	return sum, err
}

// storeTree hands the fresh tree to the cache and takes it from there.
func (b *build) storeTree(ctx context.Context, s *ui.Stage, key string) error {
	sum, err := b.hashTree(ctx, s, b.fresh(), "hashing the tree")
	if err != nil {
		return err
	}
	packages, err := countPackages(b.fresh())
	if err != nil {
		return err
	}
	meta, err := json.Marshal(treeMeta{Stats: sum.Stats, Packages: packages})
	if err != nil {
		return err
	}
	title := fmt.Sprintf("%s %s %s, %s kernel, darksite %s", b.src.Distro, b.src.Release, b.src.Profile, b.src.Kernel, short(b.site.Digest()))
	info := cache.Info{Key: key, SHA256: sum.SHA256, Size: sum.Size, Title: title, Meta: meta}
	b.entry, err = b.opts.Cache.Adopt(filepath.Dir(b.fresh()), info)
	return err
}

// fresh is where the packages are installed; its folder becomes the entry.
func (b *build) fresh() string { return filepath.Join(b.work.Dir, "entry", "root") }

// attachTree shows the cached tree at b.root. Where the kernel or the cache's
// file system has no overlays for us, it is copied there.
func (b *build) attachTree(ctx context.Context) error {
	o := &sandbox.Overlay{
		Lower: b.entry.Root, Upper: filepath.Join(b.work.Dir, "upper"), Work: filepath.Join(b.work.Dir, "overlay"), Target: b.root,
	}
	for _, dir := range []string{o.Upper, o.Work} {
		if err := makeDir(dir); err != nil {
			return err
		}
	}
	try := sandbox.Job{Doing: "mounting an overlay", Command: []string{"true"}, Overlay: o}
	if err := sandbox.Run(ctx, try); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return copyTree(ctx, sandbox.Job{Call: fnPack, Arg: packArg{b.entry.Root, b.epoch.Unix()}}, b.root)
	}
	b.overlay = o
	return nil
}

// copyTree unpacks what a packing job gives into the folder to.
func copyTree(ctx context.Context, pack sandbox.Job, to string) error {
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	packed := make(chan error, 1)
	go func() {
		pack.Doing, pack.Stdout = "copying the tree", pw
		packed <- sandbox.Run(ctx, pack) // before the reader sees the end
		_ = pw.Close()
	}()
	err = sandbox.Run(ctx, sandbox.Job{Doing: "copying the tree", Call: fnUnpack, Arg: to, Stdin: pr})
	return firstError(packed, err, pr)
}

// onTree lets a job see the tree at b.root.
func (b *build) onTree(j sandbox.Job) sandbox.Job {
	j.Overlay = b.overlay
	return j
}

// treeMeta is what the cache remembers of a tree.
type treeMeta struct {
	Stats    tree.Stats `json:"stats"`
	Packages int        `json:"packages"`
}

// bootstrap installs the packages from the darksite alone, without network.
func (b *build) bootstrap(ctx context.Context, s *ui.Stage) error {
	if err := errors.Join(os.Mkdir(filepath.Dir(b.fresh()), 0o700), makeDir(b.fresh())); err != nil {
		return err
	}
	log := &run.Lines{Func: func(line string) { s.Progress(0, 0, strings.TrimPrefix(line, "I: ")) }}
	var tail strings.Builder
	watched := b.watchDpkg(s)
	defer watched()
	err := sandbox.Run(ctx, sandbox.Job{
		Doing: "installing the packages", Command: b.install.Bootstrap(b.fresh()),
		Env: append(b.install.BootstrapEnv(), "TMPDIR="+b.tmp), Stdout: io.Discard, Stderr: io.MultiWriter(log, &tail),
	})
	if err != nil {
		if name := distro.MissingPackage(tail.String()); name != "" {
			err = fmt.Errorf("%w\nhint: the darksite has no package %q; add it to the profile's list and run kldload darksite create", err, name)
		}
		return err
	}
	s.Progress(0, 0, "making the initramfs")
	return sandbox.Run(ctx, sandbox.Job{
		Doing: "making the initramfs", Command: b.install.Finish(), Env: b.install.Env(), Root: b.fresh(), Tmp: b.tmp,
	})
}

// watchDpkg shows what dpkg does, from the log it keeps in the tree, until the
// function it returns is called.
func (b *build) watchDpkg(s *ui.Stage) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if text, err := os.ReadFile(filepath.Join(b.fresh(), "var/log/dpkg.log")); err == nil {
					s.Progress(0, 0, dpkgNote(string(text)))
				}
			}
		}
	}()
	return func() { close(done); <-ended }
}

// dpkgNote sums up a dpkg.log (dpkg(1), --log): lines such as
// "2026-11-23 14:02:11 status installed dash:amd64 0.5.12-2".
func dpkgNote(log string) string {
	unpacked, installed, last := map[string]bool{}, map[string]bool{}, ""
	for _, line := range strings.Split(log, "\n") {
		f := strings.Fields(line)
		if len(f) < 5 || f[2] != "status" {
			continue
		}
		last = f[4]
		switch f[3] {
		case "unpacked":
			unpacked[last] = true
		case "installed":
			installed[last] = true
		}
	}
	last, _, _ = strings.Cut(last, ":")
	return fmt.Sprintf("dpkg: %d packages unpacked, %d configured, at %s", len(unpacked), len(installed), last)
}

// inTree runs a command chrooted in the tree, without network.
func (b *build) inTree(ctx context.Context, doing string, command []string) error {
	return sandbox.Run(ctx, b.onTree(sandbox.Job{Doing: doing, Command: command, Env: b.install.Env(), Root: b.root, Tmp: b.tmp}))
}

// countPackages counts the installed packages in dpkg's database.
func countPackages(root string) (int, error) {
	b, err := os.ReadFile(filepath.Join(root, "var/lib/dpkg/status"))
	if err != nil {
		return 0, fmt.Errorf("counting packages: %w", err)
	}
	return strings.Count("\n"+string(b), "\nStatus: install ok installed"), nil
}

// configure writes what the template says of the machine.
func (b *build) configure(ctx context.Context, _ *ui.Stage) (outcome, error) {
	arg := configureArg{
		Root: b.root, Files: b.install.Files(b.src.Timezone), Boot: b.bootConfig().Files(), Timezone: b.src.Timezone,
	}
	if err := sandbox.Run(ctx, b.onTree(sandbox.Job{Doing: "configuring the tree", Call: fnConfigure, Arg: arg})); err != nil {
		return outcome{}, err
	}
	users := accountsArg{Root: b.root}
	for _, u := range b.src.Users {
		add := []string{"useradd", "--create-home", "--shell", orDefault(u.Shell, "/bin/bash")}
		if len(u.Groups) > 0 {
			add = append(add, "--groups", strings.Join(u.Groups, ","))
		}
		if u.Gecos != "" {
			add = append(add, "--comment", u.Gecos)
		}
		if err := b.inTree(ctx, "adding user "+u.Name, append(add, u.Name)); err != nil {
			return outcome{}, err
		}
		users.Users = append(users.Users, account{u.Name, u.Sudo, u.SSHAuthorizedKeys})
	}
	if err := sandbox.Run(ctx, b.onTree(sandbox.Job{Doing: "writing the users' files", Call: fnAccounts, Arg: users})); err != nil {
		return outcome{}, err
	}
	host := orDefault(b.src.Hostname, "host name from the deployment")
	return outcome{detail: fmt.Sprintf("%s, %s, %s, %d users", host, b.src.Timezone, b.src.Locale, len(b.src.Users))}, nil
}

func orDefault(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (b *build) bootConfig() boot.Config {
	c := boot.Config{
		RootUUID: b.ids.RootUUID(), RootType: b.src.Storage, ESPUUID: b.ids.ESPUUID(),
		Parameters: append(slices.Clone(boot.DefaultParameters), b.src.KernelParameters...),
	}
	if b.src.Pool != nil {
		c.RootUUID, c.RootDataset = "", b.src.Pool.Pool+"/"+zpool.Root
	}
	return c
}
