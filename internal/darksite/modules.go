package darksite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/kldload/kldload/internal/atomicfile"
	"github.com/kldload/kldload/internal/run"
	"github.com/kldload/kldload/internal/ui"
)

// recipe is part of the cache key; it changes when compiling or packing does.
const recipe = "zfs-modules 1"

// compileScript runs in the clean chroot. $1 is the kernel's ABI, $2 the
// number of jobs. It leaves the modules, unsigned, in /kldload-out. The date
// is that of the newest source file, so that it depends on nothing else.
const compileScript = `set -e
src=$(echo /usr/src/zfs-*)
v=${src##*/zfs-}
SOURCE_DATE_EPOCH=$(find "$src" -type f -printf '%T@\n' | sort -n | tail -n 1 | cut -d. -f1)
export SOURCE_DATE_EPOCH
echo 'sign_file="/nonexistent"' >> /etc/dkms/framework.conf
dkms add -m zfs -v "$v" >&2
dkms build -m zfs -v "$v" -k "$1" -j "$2" >&2 || {
	tail -n 40 "/var/lib/dkms/zfs/$v/build/make.log" >&2
	exit 1
}
mkdir /kldload-out
cp /var/lib/dkms/zfs/"$v"/"$1"/*/module/*.ko /kldload-out/
cp /usr/share/doc/zfs-dkms/copyright /kldload-out/copyright
echo "$SOURCE_DATE_EPOCH" > /kldload-out/date
`

// modules gives the .deb of a kernel's ZFS modules, compiling it unless the
// cache has it. The file is cacheDir/zfs-modules/KEY.deb.
func (q *request) modules(ctx context.Context, u *upstream, k Kernel) (deb string, err error) {
	st := q.UI.Stage("zfs")
	key, err := u.modulesKey(ctx, k)
	if err != nil {
		st.Fail()
		return "", err
	}
	deb = filepath.Join(q.CacheDir, "zfs-modules", key+".deb")
	what := fmt.Sprintf("modules %s for %s", k.ZFSModules.ZFSVersion, k.ABI)
	if wholeDeb(ctx, deb) {
		st.Cached(what)
		return deb, nil
	}
	if err := u.compile(ctx, st, k, q.Release, deb); err != nil {
		st.Fail()
		return "", err
	}
	st.Done(what)
	return deb, nil
}

// wholeDeb tells whether a cached package is there and reads to its end.
func wholeDeb(ctx context.Context, deb string) bool {
	if _, err := os.Stat(deb); err != nil {
		return false
	}
	return run.Run(ctx, run.Cmd{Doing: "checking a cached package", Args: []string{"dpkg-deb", "--fsys-tarfile", deb}, Stdout: io.Discard}) == nil
}

// modulesKey depends on what the modules are made of: the kernel, and the
// packages of its headers, of ZFS and of the compiler.
func (u *upstream) modulesKey(ctx context.Context, k Kernel) (string, error) {
	empty := filepath.Join(u.dir, "var/lib/dpkg/empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		return "", err
	}
	args := append([]string{"apt-get", "-qq", "-o", "Dir::State::status=" + empty, "--print-uris", "install"}, baseArgs()...)
	out, err := u.output(ctx, "resolving what compiles ZFS for "+k.ABI, append(args, buildPackages(k)...)...)
	if err != nil {
		return "", err
	}
	lines := []string{recipe, k.Package, k.Version, k.ZFSModules.Version}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		r, err := parseURI(line)
		if err != nil {
			return "", err
		}
		for _, prefix := range []string{"linux-headers-", "linux-kbuild-", "linux-compiler-", "zfs-dkms", "dkms", "gcc", "binutils"} {
			if strings.HasPrefix(r.Name, prefix) {
				lines = append(lines, r.Name+" "+r.SHA256)
				break
			}
		}
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:]), nil
}

// buildPackages is what the chroot gets beside its base, pinned.
func buildPackages(k Kernel) []string {
	return []string{"zfs-dkms=" + k.ZFSModules.ZFSVersion, "linux-headers-" + k.ABI + "=" + k.Version}
}

// compile makes a clean chroot in a user namespace, compiles there and packs
// the result. The chroot is gone afterwards.
func (u *upstream) compile(ctx context.Context, st *ui.Stage, k Kernel, release, deb string) error {
	work, err := os.MkdirTemp("", "kldload-zfs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	var list strings.Builder
	for _, s := range u.sources {
		list.WriteString(s.stanza())
	}
	settings := filepath.Join(work, "apt.conf")
	if err := os.WriteFile(settings, []byte(u.settings+"Acquire::Languages { \"none\"; };\n"), 0o600); err != nil {
		return err
	}
	const into = `--customize-hook=chroot "$1" sh -c `
	doing := fmt.Sprintf("compiling ZFS %s for %s in a clean chroot", k.ZFSModules.ZFSVersion, k.ABI)
	stop := tick(st, "compiling (some minutes)")
	err = run.Run(ctx, run.Cmd{Doing: doing, Stdin: strings.NewReader(list.String()), Args: []string{"mmdebstrap",
		"--mode=unshare", "--variant=apt", "--format=null", "--aptopt=" + settings,
		"--include=" + strings.Join(buildPackages(k), ","),
		`--essential-hook=mkdir -p "$1/etc/dkms" && touch "$1/etc/dkms/no-autoinstall"`,
		into + fmt.Sprintf("%s compile %s %d", shellQuote(compileScript), k.ABI, runtime.NumCPU()),
		"--customize-hook=copy-out /kldload-out " + shellQuote(work),
		release, "/dev/null", "-"}})
	stop()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(deb), 0o755); err != nil {
		return err
	}
	return packModules(ctx, k, filepath.Join(work, "kldload-out"), deb)
}

// tick shows note with the time that passes until stop is called.
func tick(st *ui.Stage, note string) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			st.Progress(0, 0, note)
			select {
			case <-quit:
				return
			case <-t.C:
			}
		}
	}()
	return func() { close(quit); <-done }
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// modulesPostinst makes the modules known, and puts them into an initramfs
// that exists already if it is to mount a root on ZFS.
const modulesPostinst = `#!/bin/sh
set -e
if [ "$1" = configure ]; then
	depmod %[1]s
	if [ -e /boot/initrd.img-%[1]s ] && [ -e /usr/share/initramfs-tools/hooks/zfs ]; then
		update-initramfs -u -k %[1]s
	fi
fi
`

const modulesPostrm = `#!/bin/sh
set -e
if [ "$1" = remove ] && [ -e /lib/modules/%[1]s/modules.order ]; then
	depmod %[1]s
fi
`

// packModules packs compiled modules (from/*.ko, copyright, date) as deb.
func packModules(ctx context.Context, k Kernel, from, deb string) error {
	kos, err := filepath.Glob(filepath.Join(from, "*.ko"))
	if err != nil {
		return err
	}
	date, err := os.ReadFile(filepath.Join(from, "date"))
	if err != nil {
		return fmt.Errorf("packing %s: %w", k.ZFSModules.Package, err)
	}
	tree, err := os.MkdirTemp("", "kldload-deb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	files := map[string][]byte{}
	var size int
	for _, ko := range kos {
		data, err := os.ReadFile(ko)
		if err != nil {
			return err
		}
		if !bytes.Contains(data, []byte("vermagic="+k.ABI+" ")) {
			return fmt.Errorf("packing %s: %s is not for kernel %s", k.ZFSModules.Package, filepath.Base(ko), k.ABI)
		}
		size += len(data)
		files["lib/modules/"+k.ABI+"/updates/dkms/"+filepath.Base(ko)] = data
	}
	for _, want := range []string{"zfs.ko", "spl.ko"} {
		if !slices.Contains(kos, filepath.Join(from, want)) {
			return fmt.Errorf("packing %s: the compilation left no %s", k.ZFSModules.Package, want)
		}
	}
	if files["usr/share/doc/"+k.ZFSModules.Package+"/copyright"], err = os.ReadFile(filepath.Join(from, "copyright")); err != nil {
		return err
	}
	files["DEBIAN/control"] = modulesControl(k, size)
	files["DEBIAN/postinst"] = fmt.Appendf(nil, modulesPostinst, k.ABI)
	files["DEBIAN/postrm"] = fmt.Appendf(nil, modulesPostrm, k.ABI)
	if err := writeTree(tree, files); err != nil {
		return err
	}
	return buildDeb(ctx, tree, strings.TrimSpace(string(date)), deb)
}

func modulesControl(k Kernel, size int) []byte {
	arch := k.ABI[strings.LastIndex(k.ABI, "-")+1:]
	return fmt.Appendf(nil, `Package: %s
Source: zfs-linux
Version: %s
Architecture: %s
Maintainer: kldload darksite <root@localhost>
Installed-Size: %d
Depends: %s (= %s), kmod
Provides: zfs-modules
Section: kernel
Priority: optional
Description: OpenZFS modules %s for Linux %s
 Compiled from zfs-dkms for exactly this kernel when the darksite was made,
 so that neither building an image nor running it needs a compiler.
`, k.ZFSModules.Package, k.ZFSModules.Version, arch, (size+1023)/1024, k.Package, k.Version, k.ZFSModules.ZFSVersion, k.ABI)
}

func writeTree(tree string, files map[string][]byte) error {
	for name, data := range files {
		path := filepath.Join(tree, name)
		perm := os.FileMode(0o644)
		if strings.HasPrefix(name, "DEBIAN/post") {
			perm = 0o755
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, perm); err != nil {
			return err
		}
	}
	return os.Chmod(tree, 0o755)
}

// buildDeb packs tree, owned by root and dated date (seconds since 1970).
func buildDeb(ctx context.Context, tree, date, deb string) error {
	f, err := atomicfile.Create(deb, 0o644)
	if err != nil {
		return err
	}
	err = filepath.WalkDir(tree, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o755) // whatever the umask is
		}
		return err
	})
	if err == nil {
		err = run.Run(ctx, run.Cmd{Doing: "packing " + filepath.Base(tree), Env: append(os.Environ(), "SOURCE_DATE_EPOCH="+date),
			Args: []string{"dpkg-deb", "--root-owner-group", "-Zxz", "--build", tree, f.Name()}})
	}
	if err != nil {
		return errors.Join(err, f.Abort())
	}
	return f.Commit()
}
