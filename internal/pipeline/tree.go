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
	return outcome{detail: fmt.Sprintf("%s  %d packages  %s  verified", b.src.Darksite, len(l.Packages), short(site.Digest()))}, nil
}

// packages are what the image starts from: the profile, exactly the pinned
// kernel with its modules (not the meta package, whose next version has none),
// and what the template adds.
func (b *build) packages(l *darksite.Lock) ([]string, error) {
	names, err := l.Install(b.src.Profile, "")
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

// treeMeta is what the cache remembers of a tree.
type treeMeta struct {
	Stats    tree.Stats `json:"stats"`
	Packages int        `json:"packages"`
}

// makeTree installs the packages, or takes the tree of an earlier build with
// the same ones.
func (b *build) makeTree(ctx context.Context, s *ui.Stage) (outcome, error) {
	key := cache.Key(append([]string{b.site.Digest()}, b.install.CacheInputs()...)...)
	meta, err := b.unpack(ctx, s, key)
	if err == nil {
		return outcome{detail: describe(meta), cached: true}, nil
	}
	if !errors.Is(err, cache.ErrMiss) && !errors.Is(err, cache.ErrDamaged) {
		return outcome{}, err
	}
	if errors.Is(err, cache.ErrDamaged) {
		s.Log("the cached tree is damaged: building it again")
	}
	if err := b.emptyRoot(); err != nil {
		return outcome{}, err
	}
	if err := b.bootstrap(ctx, s); err != nil {
		return outcome{}, err
	}
	if meta, err = b.store(ctx, s, key); err != nil {
		return outcome{}, err
	}
	return outcome{detail: describe(meta)}, nil
}

func describe(m treeMeta) string {
	return fmt.Sprintf("%d packages, %d files, %s", m.Packages, m.Stats.Entries, ui.Bytes(m.Stats.Bytes))
}

func (b *build) emptyRoot() error {
	return errors.Join(RemoveTree(b.root), os.Mkdir(b.root, 0o755))
}

// unpack fills the root from the cache, verifying on the way.
func (b *build) unpack(ctx context.Context, s *ui.Stage, key string) (treeMeta, error) {
	var meta treeMeta
	if _, err := b.opts.Cache.Lookup(key); err != nil {
		return meta, err
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return meta, err
	}
	var info cache.Info
	read := make(chan error, 1)
	go func() {
		var err error
		info, err = b.opts.Cache.Read(key, pw, func(done, total int64) { s.Progress(done, total, "unpacking") })
		read <- errors.Join(err, pw.Close())
	}()
	err = sandbox.Run(ctx, sandbox.Job{Doing: "unpacking the cached tree", Call: fnUnpack, Arg: b.root, Stdin: pr})
	_ = pr.Close() // ends the reader where the unpacker stopped early
	if readErr := <-read; errors.Is(readErr, cache.ErrDamaged) {
		return meta, readErr // what the unpacker says of damaged bytes matters less
	} else if err == nil {
		err = readErr
	}
	if err == nil {
		err = json.Unmarshal(info.Meta, &meta)
	}
	return meta, err
}

// bootstrap installs the packages from the darksite alone, without network.
func (b *build) bootstrap(ctx context.Context, s *ui.Stage) error {
	log := &run.Lines{Func: func(line string) { s.Progress(0, 0, strings.TrimPrefix(line, "I: ")) }}
	var tail strings.Builder
	watched := b.watchDpkg(s)
	defer watched()
	err := sandbox.Run(ctx, sandbox.Job{
		Doing: "installing the packages", Command: b.install.Bootstrap(b.root),
		Env: append(b.install.BootstrapEnv(), "TMPDIR="+b.tmp), Stdout: io.Discard, Stderr: io.MultiWriter(log, &tail),
	})
	if err != nil {
		if name := distro.MissingPackage(tail.String()); name != "" {
			err = fmt.Errorf("%w\nhint: the darksite has no package %q; add it to the profile's list and run kldload darksite create", err, name)
		}
		return err
	}
	s.Progress(0, 0, "making the initramfs")
	return b.inTree(ctx, "making the initramfs", b.install.Finish(), nil)
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
				if text, err := os.ReadFile(filepath.Join(b.root, "var/log/dpkg.log")); err == nil {
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
	unpacked, installed, last := 0, 0, ""
	for _, line := range strings.Split(log, "\n") {
		f := strings.Fields(line)
		if len(f) < 5 || f[2] != "status" {
			continue
		}
		last = f[4]
		switch f[3] {
		case "unpacked":
			unpacked++
		case "installed":
			installed++
		}
	}
	last, _, _ = strings.Cut(last, ":")
	return fmt.Sprintf("dpkg: %d packages unpacked, %d configured, at %s", unpacked, installed, last)
}

// inTree runs a command chrooted in the tree, without network.
func (b *build) inTree(ctx context.Context, doing string, command []string, log io.Writer) error {
	return sandbox.Run(ctx, sandbox.Job{
		Doing: doing, Command: command, Env: b.install.Env(), Root: b.root, Tmp: b.tmp, Stdout: log, Stderr: log,
	})
}

// store packs the tree into the cache.
func (b *build) store(ctx context.Context, s *ui.Stage, key string) (treeMeta, error) {
	var meta treeMeta
	w, err := b.opts.Cache.Create(key)
	if err != nil {
		return meta, err
	}
	var done int64
	count := writerFunc(func(p []byte) (int, error) {
		done += int64(len(p))
		s.Progress(done, 0, "packing")
		return w.Write(p)
	})
	err = sandbox.Call(ctx, sandbox.Job{Doing: "packing the tree", Call: fnPack, Arg: packArg{b.root, b.epoch.Unix()}, Stdout: count}, &meta.Stats)
	if err == nil {
		meta.Packages, err = countPackages(b.root)
	}
	if err != nil {
		return meta, errors.Join(err, w.Abort())
	}
	title := fmt.Sprintf("%s %s %s, %s kernel, darksite %s", b.src.Distro, b.src.Release, b.src.Profile, b.src.Kernel, short(b.site.Digest()))
	return meta, w.Commit(title, meta)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

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
	if err := sandbox.Run(ctx, sandbox.Job{Doing: "configuring the tree", Call: fnConfigure, Arg: arg}); err != nil {
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
		if err := b.inTree(ctx, "adding user "+u.Name, append(add, u.Name), nil); err != nil {
			return outcome{}, err
		}
		users.Users = append(users.Users, account{u.Name, u.Sudo, u.SSHAuthorizedKeys})
	}
	if err := sandbox.Run(ctx, sandbox.Job{Doing: "writing the users' files", Call: fnAccounts, Arg: users}); err != nil {
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
	return boot.Config{
		RootUUID: b.ids.RootUUID(), RootType: b.src.Storage, ESPUUID: b.ids.ESPUUID(),
		Parameters: append(slices.Clone(boot.DefaultParameters), b.src.KernelParameters...),
	}
}
