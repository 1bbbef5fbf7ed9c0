package darksite

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestClosureWithoutRecommends(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	o.ExtraPackages = []string{"lonely"}
	l := mustCreate(t, o)
	if got := packageNames(l); got != "aa apt base bb dd libcc lonely" {
		t.Errorf("packages %q", got)
	}
	if p := l.Packages[0]; p.Version != "1:1.0-1+b1" || p.Filename != "pool/main/a/aa/aa_1:1.0-1+b1_amd64.deb" || p.Size == 0 || len(p.SHA256) != 64 {
		t.Errorf("aa is %+v", p)
	}
	if l.Epoch != 1700000000 {
		t.Errorf("epoch %d, want upstream's", l.Epoch)
	}
	d, err := Verify(t.Context(), o.Output, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.Digest(), "sha256:") || d.RepoDir() != o.Output {
		t.Errorf("digest %s, folder %s", d.Digest(), d.RepoDir())
	}
	if exists(o.Output + ".partial") {
		t.Error("the staging folder is left")
	}
}

func TestCompleteDoesNothing(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	first := mustCreate(t, o)
	m.server.Close()
	if again := mustCreate(t, o); packageNames(again) != packageNames(first) {
		t.Error("another lock")
	}
}

func TestSameUpstreamSameBytes(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	mustCreate(t, o)
	o2 := o
	o2.Output = filepath.Join(t.TempDir(), "b")
	o2.CacheDir = t.TempDir()
	mustCreate(t, o2)
	for _, name := range []string{lockName, keyName, "dists/bookworm/InRelease", "dists/bookworm/main/binary-amd64/Packages.gz"} {
		a, errA := os.ReadFile(filepath.Join(o.Output, name))
		b, errB := os.ReadFile(filepath.Join(o2.Output, name))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs (%v, %v)", name, errA, errB)
		}
	}
}

func TestUnknownPackageIsNamedWithItsLine(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	if err := os.WriteFile(filepath.Join(o.PackageDir, "p.list"), []byte("aa\n\nnosuch\nneither\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Create(t.Context(), o)
	wantError(t, err, "no package neither (p.list:4), nosuch (p.list:3)", "hint: ")
	if exists(o.Output) {
		t.Error("an output is left")
	}
}

func TestUnmetDependencyIsExplained(t *testing.T) {
	m := newMirror(t, tiny{"broken", "1", "Depends: absent"})
	o := m.options()
	o.ExtraPackages = []string{"broken"}
	_, err := Create(t.Context(), o)
	wantError(t, err, "resolving profile p, with the extra packages", "broken : Depends: absent")
}

func TestDamageUpstream(t *testing.T) {
	for what, change := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"missing": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/libcc_") {
				http.NotFound(w, r)
				return true
			}
			return false
		},
		"damaged": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/libcc_") {
				w.Write([]byte("something else"))
				return true
			}
			return false
		},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMirror(t)
			o := m.options()
			m.setChange(change)
			_, err := Create(t.Context(), o)
			wantError(t, err, "package libcc 1, for profile p: ", "hint: ")
			if exists(o.Output) {
				t.Error("an output is left")
			}
			// Upstream is well again: only what failed is fetched.
			m.setChange(nil)
			m.requests()
			mustCreate(t, o)
			if got := m.requests(); len(got) != 1 || got["libcc"] == 0 {
				t.Errorf("fetched %v, want libcc alone", got)
			}
		})
	}
}

func TestInterruptedResumes(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	ctx, cancel := context.WithCancel(t.Context())
	m.setChange(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/libcc_") {
			return false
		}
		arrived := func() bool {
			whole, err := filepath.Glob(filepath.Join(o.Output+".partial", fetchDir, "*"))
			return err == nil && len(whole) >= 5 // aa apt base bb dd
		}
		for i := 0; i < 100 && !arrived(); i++ {
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond)
		cancel()
		<-r.Context().Done()
		return true
	})
	_, err := Create(ctx, o)
	wantError(t, err, "context canceled")
	if exists(o.Output) {
		t.Fatal("a half-made darksite has its final name")
	}
	m.setChange(nil)
	m.requests()
	mustCreate(t, o)
	if got := m.requests(); len(got) != 1 || got["libcc"] != 1 {
		t.Errorf("the second run fetched %v, want libcc alone", got)
	}
	if _, err := Verify(t.Context(), o.Output, nil); err != nil {
		t.Error(err)
	}
}

func TestRepairFetchesOnlyTheDamaged(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	l := mustCreate(t, o)
	for _, p := range l.Packages {
		if p.Name == "bb" {
			flip(t, filepath.Join(o.Output, p.Filename))
		}
		if p.Name == "dd" {
			if err := os.Remove(filepath.Join(o.Output, p.Filename)); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err := Verify(t.Context(), o.Output, nil)
	wantError(t, err, "package bb 1: ", "damaged: SHA-256", "package dd 1: ", "missing", "hint: ")
	m.requests()
	mustCreate(t, o)
	if got := m.requests(); len(got) != 2 || got["bb"] != 1 || got["dd"] != 1 {
		t.Errorf("fetched %v, want bb and dd", got)
	}
	if _, err := Verify(t.Context(), o.Output, nil); err != nil {
		t.Error(err)
	}
}

func TestOtherRequestReplacesWhole(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	mustCreate(t, o)
	o.ExtraPackages = []string{"ee"}
	mustCreate(t, o)
	o.ExtraPackages = nil
	l := mustCreate(t, o)
	if got := packageNames(l); strings.Contains(got, "ee") {
		t.Errorf("packages %q", got)
	}
	if _, err := Verify(t.Context(), o.Output, nil); err != nil {
		t.Error(err) // a stray ee would be named here
	}
}

func TestForeignFolderIsRefused(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	if err := os.MkdirAll(filepath.Join(o.Output, "photos"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Create(t.Context(), o)
	wantError(t, err, "a folder with other things in it", "hint: ")
}

func TestUpstreamSignatureIsChecked(t *testing.T) {
	m, other := newMirror(t), newMirror(t)
	o := m.options()
	o.Keyring = other.keyring
	_, err := Create(t.Context(), o)
	wantError(t, err, "reading the package indexes", "NO_PUBKEY")
	o.Keyring = m.keyring
	signed := filepath.Join(m.dir, "dists/bookworm/InRelease")
	data, err := os.ReadFile(signed)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(signed, bytes.Replace(data, []byte("Label: "), []byte("Label: x"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Create(t.Context(), o)
	wantError(t, err, "BADSIG")
}

func TestDryRunWritesNothing(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	o.DryRun = true
	l := mustCreate(t, o)
	if len(l.Packages) != 6 || len(m.requests()) != 0 {
		t.Errorf("%d packages", len(l.Packages))
	}
	if exists(o.Output) || exists(o.Output+".partial") {
		t.Error("something is written")
	}
}

func TestKernelAndItsModulesArePinned(t *testing.T) {
	m := newMirror(t, kernelPackages()...)
	o := m.options()
	o.Kernels = nil
	if err := os.WriteFile(filepath.Join(o.PackageDir, "p.list"), []byte("aa\nzfs-zed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	seedModules(t, o)
	l := mustCreate(t, o)
	want := Kernel{"generic", "linux-image-amd64", "linux-image-6.1.0-9-amd64", "6.1.0-9-amd64", "6.1.9-1",
		ZFSModules{"zfs-modules-6.1.0-9-amd64", "2.1.11-1+6.1.9.1", "2.1.11-1"}}
	if len(l.Kernels) != 1 || l.Kernels[0] != want {
		t.Errorf("kernels %+v, want %+v", l.Kernels, want)
	}
	if got := packageNames(l); strings.Contains(got, "gcc") || strings.Contains(got, "dkms") || !strings.Contains(got, "zfs-modules-6.1.0-9-amd64") {
		t.Errorf("packages %q, want the modules and no compiler", got)
	}
	names, err := l.Install("p", "generic", "zfs-root")
	if err != nil || strings.Join(names, " ") != "aa zfs-zed zfs-initramfs linux-image-amd64 linux-image-6.1.0-9-amd64 zfs-modules-6.1.0-9-amd64" {
		t.Errorf("to install: %v, %v", names, err)
	}
}

// seedModules puts a package of pretended modules into the cache, under the
// key that Create will look for.
func seedModules(t *testing.T, o CreateOptions) {
	t.Helper()
	q, err := newRequest(o)
	if err != nil {
		t.Fatal(err)
	}
	u, err := q.openUpstream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	kernels, err := q.findKernels(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	key, err := u.modulesKey(t.Context(), kernels[0])
	if err != nil {
		t.Fatal(err)
	}
	from := fakeModules(t, kernels[0].ABI)
	dir := filepath.Join(q.CacheDir, "zfs-modules")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := packModules(t.Context(), kernels[0], from, filepath.Join(dir, key+".deb")); err != nil {
		t.Fatal(err)
	}
}

func fakeModules(t *testing.T, abi string) string {
	t.Helper()
	from := t.TempDir()
	for name, text := range map[string]string{"zfs.ko": "vermagic=" + abi + " SMP", "spl.ko": "vermagic=" + abi + " SMP",
		"copyright": "CDDL", "date": "1600000000\n"} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return from
}

func TestUnsupported(t *testing.T) {
	_, err := Create(t.Context(), CreateOptions{Distro: "debian", Release: "potato", Profiles: []string{"core"}, Output: "x"})
	wantError(t, err, "debian potato amd64: no such release here", "hint: supported: debian bookworm amd64")
}

func TestTwoAtOnceAreRefused(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	hold, held := make(chan struct{}), make(chan struct{}, 100)
	m.setChange(func(w http.ResponseWriter, r *http.Request) bool { held <- struct{}{}; <-hold; return false })
	errs := make(chan error)
	go func() { _, err := Create(context.Background(), o); errs <- err }()
	select {
	case <-held:
	case <-time.After(30 * time.Second):
		t.Fatal("the first asked for nothing")
	}
	_, err := Create(t.Context(), o)
	wantError(t, err, "is being made by another kldload")
	close(hold)
	if err := <-errs; err != nil {
		t.Error(err)
	}
}
