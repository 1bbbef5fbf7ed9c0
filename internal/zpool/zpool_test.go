package zpool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kldload/kldload/zfs"
)

func TestRootLayout(t *testing.T) {
	l := NewRootLayout("rpool")
	names := l.Names()
	for i, name := range names {
		if name != "" && slices.Index(names, parent(name)) > i {
			t.Errorf("%q comes before its parent", name)
		}
		for property, value := range l.Datasets[name] {
			if err := zfs.CheckProperty(zfs.DatasetProperty, property, value); err != nil {
				t.Error(err)
			}
		}
	}
	for property, value := range l.Properties {
		if err := zfs.CheckProperty(zfs.PoolProperty, property, value); err != nil {
			t.Error(err)
		}
	}
	if o := l.Options(); o.Datasets[0].Name != "rpool" || o.Root != "/" || o.Properties["bootfs"] != "rpool/"+Root {
		t.Errorf("got %+v", o)
	}
}

func TestSet(t *testing.T) {
	l := NewLayout("tank")
	if err := errors.Join(l.Set("a/b/c", map[string]string{"quota": "1G"}), l.Set("tank/a", nil), l.Set("tank", map[string]string{"compression": "zstd-3"})); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"", "a", "a/b", "a/b/c"}, l.Names()); diff != "" {
		t.Error(diff)
	}
	if got := l.Compression("a/b"); got != "zstd-3" {
		t.Errorf("compression %q", got)
	}
	for _, c := range []struct{ name, value, want string }{
		{"qouta", "1G", `did you mean "quota"?`}, {"autotrim", "on", "it is a property of a pool"},
		{"quota", "x", "want a size"}, {"encryption", "on", "encrypted datasets are not written"},
	} {
		if err := l.Set("a", map[string]string{c.name: c.value}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: got %v, want %q", c.name, c.value, err, c.want)
		}
	}
	if err := l.SetPool("compression", "lz4"); err == nil || !strings.Contains(err.Error(), "it is a property of a dataset") {
		t.Error(err)
	}
}

func TestTreeRoot(t *testing.T) {
	for want, set := range map[string]func(l *Layout) error{
		"/tank": func(*Layout) error { return nil },
		"/srv":  func(l *Layout) error { return l.Set("", map[string]string{"mountpoint": "/srv"}) },
		"/": func(l *Layout) error {
			return errors.Join(l.Set("", map[string]string{"mountpoint": "none"}), l.Set("x", map[string]string{"mountpoint": "/"}))
		},
	} {
		l := NewLayout("tank")
		if err := set(l); err != nil {
			t.Fatal(err)
		}
		if got := l.Options().Root; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func request(t *testing.T) Request {
	t.Helper()
	src := t.TempDir()
	for name, text := range map[string]string{"etc/hosts": "hosts", "home/ada/x": "x", "var/log/y": "y"} {
		full := filepath.Join(src, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return Request{
		Layout: NewRootLayout("rpool"), From: src, Output: filepath.Join(t.TempDir(), "p.img"), Size: 64 << 20,
		Snapshot: "golden", Epoch: time.Unix(1700000000, 0), Now: time.Now,
	}
}

func TestCreateAndOpen(t *testing.T) {
	r := request(t)
	result, err := Create(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if result.Files != 9 || result.Root != "/" || len(result.Datasets) != 13 {
		t.Errorf("got %+v", result)
	}
	img, err := Open(r.Output)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	for where, want := range map[string]string{
		"rpool/ROOT/default/etc/hosts": "hosts", "rpool/ROOT/default@golden/etc/hosts": "hosts", "/etc/hosts": "hosts",
		"rpool/home/ada/x": "x", "/home/ada/x": "x", "rpool/var/log@golden/y": "y",
	} {
		files, name, err := img.Files(where)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fs.ReadFile(files, name); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", where, got, err)
		}
	}
	if report, err := img.Check(context.Background(), zfs.CheckOptions{}); err != nil || !report.OK() {
		t.Errorf("check: %v %v", report, err)
	}
}

// TestInterrupted ends while the source gives nothing.
func TestInterrupted(t *testing.T) {
	r := request(t)
	in, w := io.Pipe()
	defer w.Close()
	r.From, r.Stdin = "-", in
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := Create(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if list, err := os.ReadDir(filepath.Dir(r.Output)); err != nil || len(list) != 0 {
		t.Errorf("left %v, %v", list, err)
	}
}

func TestTarget(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"a.img", "b:c.img"} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string][2]string{
		"a.img": {"a.img", ""}, "a.img:rpool/x": {"a.img", "rpool/x"}, "a.img:rpool/x:y": {"a.img", "rpool/x:y"},
		"b:c.img": {"b:c.img", ""}, "b:c.img:/x": {"b:c.img", "/x"}, "none:x:y": {"none", "x:y"}, "none": {"none", ""}, ":x": {"", "x"},
	} {
		if image, where := Target(text); image != want[0] || where != want[1] {
			t.Errorf("%q: got %q and %q", text, image, where)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(name, bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(name)
	var damaged *DamagedError
	if !errors.As(err, &damaged) {
		t.Errorf("got %v", err)
	}
}
