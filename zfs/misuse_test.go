package zfs

import (
	"crypto/sha256"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func sha256Sum(b []byte) [32]byte { return sha256.Sum256(b) }

// discard takes what is written.
type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

type broken struct{ after int }

func (b *broken) WriteAt(p []byte, _ int64) (int, error) {
	if b.after -= len(p); b.after < 0 {
		return 0, errors.New("the disk is gone")
	}
	return len(p), nil
}

func TestOptionsAreChecked(t *testing.T) {
	for want, change := range map[string]func(o *Options){
		"size 1000: want at least":               func(o *Options) { o.Size = 1000 },
		"size 140737488617472: want at most":     func(o *Options) { o.Size = MaxSize + 256<<10 },
		"a multiple of 262144":                   func(o *Options) { o.Size = MinSize + 4096 },
		"no seed":                                func(o *Options) { o.Seed = "" },
		"no epoch":                               func(o *Options) { o.Epoch = time.Time{} },
		"the first dataset must be \"rpool\"":    func(o *Options) { o.Datasets = o.Datasets[1:] },
		"want a letter first":                    func(o *Options) { o.Pool, o.Datasets = "1pool", []Dataset{{Name: "1pool"}} },
		"reserved for vdevs":                     func(o *Options) { o.Pool, o.Datasets = "mirror2", []Dataset{{Name: "mirror2"}} },
		"character '@'":                          func(o *Options) { o.Snapshot = "a@b" },
		"character 'é'":                          func(o *Options) { o.Datasets[3].Name = "rpool/é" },
		"it is there twice":                      func(o *Options) { o.Datasets[3].Name = "rpool/ROOT" },
		"its parent \"rpool/no\" does not come":  func(o *Options) { o.Datasets[3].Name = "rpool/no/where" },
		"a name of 257 bytes with its snapshot":  func(o *Options) { o.Datasets[3].Name = "rpool/" + strings.Repeat("x", 244) },
		"mountpoint \"/home\" is that of":        func(o *Options) { o.Datasets[6].Properties["mountpoint"] = "/home" },
		"bootfs=\"rpool/x\": no such dataset":    func(o *Options) { o.Properties["bootfs"] = "rpool/x" },
		"no such property (have":                 func(o *Options) { o.Datasets[1].Properties["compresion"] = "lz4" },
		"compression=\"gzip\": want on, off, lz": func(o *Options) { o.Datasets[1].Properties["compression"] = "gzip" },
		"encrypted datasets are not written":     func(o *Options) { o.Datasets[1].Properties["encryption"] = "aes-256-gcm" },
		"recordsize=\"100K\": want a power":      func(o *Options) { o.Datasets[1].Properties["recordsize"] = "100K" },
		"quota=\"-1\"":                           func(o *Options) { o.Datasets[1].Properties["quota"] = "-1" },
		"mountpoint=\"home\": want an absolute":  func(o *Options) { o.Datasets[3].Properties["mountpoint"] = "home" },
		"lower case letters":                     func(o *Options) { o.Datasets[3].Properties["A:b"] = "x" },
		"compression=zstd needs a feature that": func(o *Options) {
			o.Properties["compatibility"] = "grub2"
			o.Datasets[0].Properties["dnodesize"] = "legacy"
		},
		"compatibility=\"2.9\": want a set":      func(o *Options) { o.Properties["compatibility"] = "2.9" },
		"root \"x\": want a clean absolute path": func(o *Options) { o.Root = "x" },
	} {
		o := testOptions(MinSize)
		change(&o)
		if _, err := NewWriter(discard{}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestPropertyValues(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        any
	}{
		{"compression", "zstd-19", uint64(16 | 19<<7)}, {"compression", "on", uint64(1)}, {"quota", "10G", uint64(10 << 30)},
		{"quota", "none", uint64(0)}, {"refquota", "512KiB", uint64(512 << 10)}, {"recordsize", "1M", uint64(1 << 20)}, {"recordsize", "512", uint64(512)},
		{"mountpoint", "/", "/"}, {"mountpoint", "legacy", "legacy"}, {"dnodesize", "4k", uint64(4096)}, {"org.x:y", "any text", "any text"}, {"sync", "disabled", uint64(2)},
	} {
		if got, err := parseProperty(DatasetProperty, c.name, c.value); err != nil || got != c.want {
			t.Errorf("%s=%s: %v, %v; want %v", c.name, c.value, got, err, c.want)
		}
	}
	for _, c := range [][2]string{{"compression", "zstd-0"}, {"compression", "zstd-03"}, {"recordsize", "2M"}, {"quota", "9E9"}, {"mountpoint", "/a/../b"}, {"mountpoint", "/a//b"}, {"org.x:y", "a\x00b"}, {"canmount", "yes"}} {
		if CheckProperty(DatasetProperty, c[0], c[1]) == nil {
			t.Errorf("%s=%s is taken", c[0], c[1])
		}
	}
}

func TestFilesAreChecked(t *testing.T) {
	long := strings.Repeat("x", 256)
	for want, e := range map[string]entry{
		"want a clean relative path":                 dir("a/../b"),
		"a name of 256 bytes":                        dir(long),
		"a name with a NUL":                          dir("a\x00b"),
		"its parent directory is not there":          file("no/file", nil),
		"target of 0 bytes":                          {Header: Header{Path: "l", Mode: modeSymlink}},
		"its type bits are none":                     {Header: Header{Path: "l", Mode: 0o644}},
		"content in regular files alone":             {Header: Header{Path: "d", Mode: modeDir, Size: 5}},
		"want a directory":                           file("home", nil),
		"is mounted below it, at \"/var/log\"":       file("var", nil),
		"linking \"big\" to \"file\": dataset":       {Header: Header{Path: "big"}, link: "file"},
		"want its type and twelve bits":              {Header: Header{Path: "f", Mode: 1<<16 | modeRegular}},
		"want at most 9223372036853727232":           {Header: Header{Path: "f", Mode: modeRegular, Size: 1<<63 - 1}},
		"its body ends after 3 bytes: its size is 5": {Header: Header{Path: "f", Mode: modeRegular, Size: 5}, body: strings.NewReader("abc")},
		"its body goes on after 2 bytes":             {Header: Header{Path: "f", Mode: modeRegular, Size: 2}, body: strings.NewReader("abc")},
		"no such file":                               {Header: Header{Path: "l"}, link: "nowhere"},
		"want a file that is no directory":           {Header: Header{Path: "l"}, link: "dir"},
		"they are in datasets":                       {Header: Header{Path: "home/l"}, link: "file"},
		"twice":                                      file("file", nil),
		"extended attribute \"\"":                    {Header: Header{Path: "x", Mode: modeRegular, Xattrs: map[string][]byte{"": nil}}},
		"a value of 65537 bytes":                     {Header: Header{Path: "x", Mode: modeRegular, Xattrs: map[string][]byte{"user.x": make([]byte, 65537)}}},
		"reading the content of \"f\" at 0":          {Header: Header{Path: "f", Mode: modeRegular, Size: 5}, body: failing{}},
	} {
		w, err := NewWriter(discard{}, testOptions(MinSize))
		if err != nil {
			t.Fatal(err)
		}
		for _, ok := range []entry{dir("dir"), dir("home"), file("file", []byte("x"))} {
			if err := w.Create(ok.Header, ok.body); err != nil {
				t.Fatal(err)
			}
		}
		if e.link != "" {
			err = w.Link(e.Path, e.link)
		} else {
			err = w.Create(e.Header, e.body)
		}
		if again := w.Close(); err == nil {
			err = again // what only the whole directory shows
		} else if again == nil || again.Error() != err.Error() {
			t.Errorf("the broken writer says %v, then %v", err, again)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if w.Close() == nil || w.Create(dir("late").Header, nil) == nil {
			t.Error("a closed writer goes on")
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("a bad sector") }

func TestNoDatasetAbove(t *testing.T) {
	o := testOptions(MinSize)
	o.Datasets, o.Properties = []Dataset{{Name: "rpool", Properties: map[string]string{"mountpoint": "none"}}}, nil
	w, err := NewWriter(discard{}, o)
	if err != nil {
		t.Fatal(err)
	}
	err = w.Create(file("x", nil).Header, nil)
	if err == nil || !strings.Contains(err.Error(), "no dataset is mounted at or above it\nhint: ") {
		t.Error(err)
	}
	w.Close()
}

func TestQuotasHold(t *testing.T) {
	for want, home := range map[string]map[string]string{
		"":                       {"quota": "2M"},
		": refquota allows 4096": {"refquota": "4K"},
		": quota allows 1048576\nhint: a larger quota": {"quota": "1M"},
	} {
		home["mountpoint"] = "/home"
		o := testOptions(MinSize)
		o.Datasets[3].Properties = home
		err := buildFile(filepath.Join(t.TempDir(), "pool.img"), o, []entry{file("home/file", random(1, 1<<20))})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("with %v: got %v, want %q", home, err, want)
		}
	}
}

func TestBrokenImage(t *testing.T) {
	for _, after := range []int{0, 1 << 20, 3 << 20} {
		w, err := NewWriter(&broken{after}, testOptions(256<<20))
		if err != nil {
			t.Fatal(err)
		}
		var r io.Reader = strings.NewReader(string(random(1, 8<<20)))
		err = w.Create(Header{Path: "f", Mode: modeRegular, Size: 8 << 20}, r)
		if err = errors.Join(err, w.Close()); err == nil || !strings.Contains(err.Error(), "of the image: the disk is gone") {
			t.Errorf("after %d bytes: %v", after, err)
		}
	}
}
