package darksite

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// mirror is an upstream of tiny packages on loopback, signed with a key of
// its own, standing for Debian's.
type mirror struct {
	t       *testing.T
	dir     string
	url     string
	keyring string
	server  *httptest.Server

	mu     sync.Mutex
	got    map[string]int                                // requests of .deb files by package
	change func(http.ResponseWriter, *http.Request) bool // true: answered
}

// tiny is a package of the test mirror; fields are further control lines.
type tiny struct{ name, version, fields string }

func basePackages() []tiny {
	return []tiny{
		{"base", "1", "Essential: yes\nPriority: required"},
		{"apt", "2.6", "Depends: base"},
		{"aa", "1:1.0-1+b1", "Depends: bb"},
		{"bb", "1", "Depends: libcc (>= 1)"},
		{"libcc", "1", ""},
		{"dd", "1", "Recommends: ee"},
		{"ee", "1", ""},
		{"lonely", "1", ""},
	}
}

// kernelPackages are a kernel, its headers and ZFS.
func kernelPackages() []tiny {
	return []tiny{
		{"linux-image-amd64", "6.1.9-1", "Depends: linux-image-6.1.0-9-amd64 (= 6.1.9-1)"},
		{"linux-image-6.1.0-9-amd64", "6.1.9-1", "Depends: kmod"},
		{"kmod", "1", ""},
		{"linux-headers-6.1.0-9-amd64", "6.1.9-1", ""},
		{"zfs-dkms", "2.1.11-1", "Provides: zfs-modules\nDepends: gcc-12"},
		{"gcc-12", "12", ""},
		{"zfsutils-linux", "2.1.11-1", ""},
		{"zfs-zed", "2.1.11-1", "Depends: zfs-modules | zfs-dkms, zfsutils-linux"},
		{"zfs-initramfs", "2.1.11-1", "Depends: zfs-modules | zfs-dkms"},
	}
}

func newMirror(t *testing.T, packages ...tiny) *mirror {
	t.Helper()
	m := &mirror{t: t, dir: t.TempDir(), got: map[string]int{}}
	l := &Lock{Schema: lockSchema, Distro: "debian", Release: "bookworm", Arch: "amd64", Epoch: 1700000000}
	entries := map[string]string{}
	for _, p := range append(basePackages(), packages...) {
		got, entry, err := addDeb(t.Context(), m.dir, buildTiny(t, p))
		if err != nil {
			t.Fatal(err)
		}
		l.Packages = append(l.Packages, got)
		entries[got.Filename] = entry
	}
	key, err := makeKey(filepath.Join(t.TempDir(), "upstream.key"), time.Unix(1600000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := writeIndex(m.dir, l, entries, key); err != nil {
		t.Fatal(err)
	}
	m.keyring = filepath.Join(m.dir, keyName)
	m.server = httptest.NewServer(http.HandlerFunc(m.serve))
	t.Cleanup(m.server.Close)
	m.url = m.server.URL
	return m
}

func buildTiny(t *testing.T, p tiny) string {
	t.Helper()
	tree, deb := t.TempDir(), filepath.Join(t.TempDir(), "x.deb")
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: test <test@localhost>\nDescription: tiny\n", p.name, p.version)
	if p.fields != "" {
		control += p.fields + "\n"
	}
	err := writeTree(tree, map[string][]byte{"DEBIAN/control": []byte(control), "usr/share/" + p.name: []byte(strings.Repeat(p.name, 500))})
	if err == nil {
		err = buildDeb(t.Context(), tree, "1600000000", deb)
	}
	if err != nil {
		t.Fatal(err)
	}
	return deb
}

func (m *mirror) serve(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	change := m.change
	if strings.HasSuffix(r.URL.Path, ".deb") {
		m.got[filepath.Base(filepath.Dir(r.URL.Path))]++
	}
	m.mu.Unlock()
	if change == nil || !change(w, r) {
		http.FileServer(http.Dir(m.dir)).ServeHTTP(w, r)
	}
}

func (m *mirror) setChange(f func(http.ResponseWriter, *http.Request) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.change = f
}

// requests tells how often each package was asked for since the last call.
func (m *mirror) requests() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.got
	m.got = map[string]int{}
	return got
}

// options asks for a profile "p" of aa and dd without a kernel.
func (m *mirror) options() CreateOptions {
	m.t.Helper()
	m.t.Setenv("XDG_DATA_HOME", m.t.TempDir())
	lists := m.t.TempDir()
	if err := os.WriteFile(filepath.Join(lists, "p.list"), []byte("# p\naa\ndd\n"), 0o644); err != nil {
		m.t.Fatal(err)
	}
	return CreateOptions{Distro: "debian", Release: "bookworm", Profiles: []string{"p"}, Kernels: []string{NoKernel},
		PackageDir: lists, Mirrors: []string{m.url + " bookworm main"}, Keyring: m.keyring,
		Output: filepath.Join(m.t.TempDir(), "a site"), CacheDir: m.t.TempDir()}
}

func mustCreate(t *testing.T, o CreateOptions) *Lock {
	t.Helper()
	l, err := Create(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func packageNames(l *Lock) string {
	var s []string
	for _, p := range l.Packages {
		s = append(s, p.Name)
	}
	return strings.Join(s, " ")
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got error %v, want %q", err, part)
		}
	}
}

// flip changes one byte of a file and leaves its size and time.
func flip(t *testing.T, name string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}
