package fat_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kldload/kldload/internal/fat"
)

// What mtools delete is found, what they keep is not; the sum of what is free is
// what mdir says.
func TestUnusedAsMtools(t *testing.T) {
	for _, args := range [][]string{{"-F", "12", "1M"}, {"-F", "16", "16M"}, {"-F", "32", "-s", "2", "80M"}, {"-S", "4096", "-F", "32", "300M"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			f := newImage(t, 0)
			tool(t, "truncate", "-s", args[len(args)-1], f.Name())
			tool(t, "mkfs.vfat", append(args[:len(args)-1:len(args)-1], f.Name())...)
			src := t.TempDir()
			for name, body := range map[string]string{
				"gone.txt": strings.Repeat("content that goes ", 1000), "kept.txt": strings.Repeat("content that stays ", 500),
				"longer.txt": strings.Repeat("cut off later ", 30),
			} {
				if err := os.WriteFile(filepath.Join(src, name), []byte(body), 0o600); err != nil {
					t.Fatal(err)
				}
				tool(t, "mcopy", "-i", f.Name(), filepath.Join(src, name), "::")
			}
			tool(t, "mdel", "-i", f.Name(), "::gone.txt")
			places := whereIs(t, f, "kept.txt", "longer.txt", ".")
			for text, want := range map[string]string{
				"content that goes": fat.FreeSpace, "content that stays": "", "cut off later": "", "ONE    TXT": fat.DirSlack, "KEPT    TXT": "",
			} {
				if got := places(text); got != want {
					t.Errorf("%q is in %q, want %q", text, got, want)
				}
			}
			free := int64(0)
			fsys := open(t, f)
			if err := fsys.Unused(func(kind string, _, size int64) error {
				if kind == fat.FreeSpace {
					free += size
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			digits := strings.NewReplacer(" ", "", "\n", "")
			lines := strings.Split(strings.TrimSpace(tool(t, "mdir", "-i", f.Name(), "::")), "\n")
			if diff := cmp.Diff(digits.Replace(lines[len(lines)-1]), fmt.Sprintf("%dbytesfree", free)); diff != "" {
				t.Errorf("(-mdir +here)\n%s", diff)
			}
		})
	}
}

// whereIs looks for texts in all that is unused.
func whereIs(t *testing.T, f *os.File, names ...string) func(text string) string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*bytes.Buffer{}
	add := func(kind string, off, size int64) error {
		if all[kind] == nil {
			all[kind] = &bytes.Buffer{}
		}
		all[kind].Write(b[off : off+size])
		return nil
	}
	fsys := open(t, f)
	if err := fsys.Unused(add); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := fsys.Slack(name, add); err != nil {
			t.Fatal(err)
		}
	}
	return func(text string) string {
		var kinds []string
		for _, k := range []string{fat.FreeSpace, fat.Reserved, fat.FileTail, fat.DirSlack} {
			if all[k] != nil && bytes.Contains(all[k].Bytes(), []byte(text)) {
				kinds = append(kinds, k)
			}
		}
		return strings.Join(kinds, ", ")
	}
}

// The rest of the last cluster is behind the content, where mshowfat says.
func TestTailOfFile(t *testing.T) {
	f := build(t, fat.Options{Size: 40 * mib, Epoch: epoch}, tree{"file": []byte(strings.Repeat("x", 700))})
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	at := int64(bytes.Index(b, bytes.Repeat([]byte("x"), 700)))
	var got string
	if err := open(t, f).Slack("file", func(kind string, off, size int64) error {
		got = fmt.Sprint(kind, " ", off-at, " ", (size+700)%512)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := "slack 700 0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
