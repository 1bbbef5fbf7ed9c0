package fat_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kldload/kldload/internal/fat"
)

func TestWriterRefusesVolumes(t *testing.T) {
	cases := []struct {
		opts fat.Options
		want string
	}{
		{fat.Options{Size: 32 * mib, Type: fat.FAT32}, "FAT32 wants 65541 to"},
		{fat.Options{Size: 2 * mib, Type: fat.FAT16}, "FAT16 wants 4101 to"},
		{fat.Options{Size: 4 << 30, Type: fat.FAT16}, "FAT16 wants"},
		{fat.Options{Size: 512 * mib, Type: fat.FAT12}, "FAT12 wants 1 to 4068"},
		{fat.Options{Size: 512}, "size 512 gives 0 clusters"},
		{fat.Options{Size: mib + 1}, "multiple of the 512-byte sector"},
		{fat.Options{Size: 3 << 40}, "counts at most 4294967295"},
		{fat.Options{Size: mib, SectorSize: 1024}, "sector size 1024"},
		{fat.Options{Size: mib, Type: 8}, "type 8"},
		{fat.Options{Size: mib, Label: "cidata"}, "character 'c'"},
		{fat.Options{Size: mib, Label: "TWELVE CHARS"}, "at most 11 characters"},
	}
	for _, c := range cases {
		if _, err := fat.NewWriter(nil, c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", c.opts, err, c.want)
		}
	}
}

func TestWriterRefusesNamesAndGoesOn(t *testing.T) {
	f := newImage(t, 2*mib)
	w, err := fat.NewWriter(f, fat.Options{Size: 2 * mib})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Create("EFI/BOOT/File.txt", 1, strings.NewReader("x"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"EFI/BOOT/file.TXT":                    `"file.TXT" is the same name on FAT as "File.txt"`,
		"efi/other":                            `"efi" is the same name on FAT as "EFI"`,
		"EFI":                                  "is the same name on FAT",
		"EFI/BOOT/File.txt/below":              "is the same name on FAT",
		"a:b":                                  `character ':' in name "a:b"`,
		"tab\tname":                            `character '\t'`,
		"ends.":                                "ends in a dot or a space",
		"ends ":                                "ends in a dot or a space",
		"a//b":                                 "empty, . or .. parts",
		"../up":                                "empty, . or .. parts",
		"":                                     "empty, . or .. parts",
		".":                                    "cannot be stored",
		"bad\xff":                              "path has", // not UTF-8: fs.ValidPath
		strings.Repeat("x", 254) + "𝄞":         "has 256 UTF-16 units (want at most 255)",
		strings.Repeat("d/", 128) + "too deep": "directories deep",
	} {
		err := w.Create(name, 1, strings.NewReader("x"), time.Time{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "creating ") {
			t.Errorf("%q: got %v, want %q", name, err, want)
		}
	}
	if err := w.Create("huge", 1<<32, strings.NewReader(""), time.Time{}); err == nil {
		t.Error("a file of 4 GiB: no error")
	}
	if err := w.Mkdir("EFI/BOOT"); err != nil {
		t.Errorf("a directory that exists: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	fsck(t, f)
	if err := w.Close(); err == nil {
		t.Error("second Close: no error")
	}
}

func TestWriterRefusesWrongContent(t *testing.T) {
	for body, want := range map[string]string{"12": "ends after 2 bytes (want 3)", "1234": "goes on after 3 bytes"} {
		w, err := fat.NewWriter(newImage(t, mib), fat.Options{Size: mib})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Create("f", 3, strings.NewReader(body), time.Time{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if err := w.Close(); err == nil || !strings.Contains(err.Error(), `creating "f"`) {
			t.Errorf("Close after it: %v", err)
		}
	}
}

// TestFullVolume fills volumes to the last cluster: what Create admits, Close
// must be able to write.
func TestFullVolume(t *testing.T) {
	for _, opts := range []fat.Options{{Size: mib}, {Size: 34 * mib, Type: fat.FAT32}, {Size: 5 * mib}} {
		f := newImage(t, opts.Size)
		w, err := fat.NewWriter(f, opts)
		if err != nil {
			t.Fatal(err)
		}
		want := tree{}
		for i := 0; ; i++ {
			name := "some/folder/file with a long name " + strings.Repeat("i", i%90) + string(rune('A'+i/90))
			size := int64(1 + i*700)
			err := w.Create(name, size, bytes.NewReader(noise(int(size), 3)), time.Time{})
			if errors.Is(err, fat.ErrNoSpace) {
				if !strings.Contains(err.Error(), "bytes needed") || !strings.Contains(err.Error(), "available") {
					t.Error(err)
				}
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			want[name] = noise(int(size), 3)
		}
		for i := 0; ; i++ { // one cluster each, to the last
			name := "fill/" + strings.Repeat("F", 1+i%8) + string(rune('À'+i/8))
			if err := w.Create(name, 1, strings.NewReader("x"), time.Time{}); errors.Is(err, fat.ErrNoSpace) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			want[name] = []byte("x")
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		fsck(t, f)
		sameTree(t, open(t, f), want)
	}
}

func TestFixedRootIsFull(t *testing.T) {
	f := newImage(t, mib)
	w, err := fat.NewWriter(f, fat.Options{Size: mib, Label: "CIDATA"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 512 {
		err = w.Create("F"+string(rune('A'+i/26))+string(rune('A'+i%26)), 0, nil, time.Time{})
		if err != nil {
			break
		}
	}
	if !errors.Is(err, fat.ErrNoSpace) || !strings.Contains(err.Error(), "513 entries needed, at most 512 possible") {
		t.Errorf("got %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	fsck(t, f)
}

// seedImage is a small FAT12 volume: boot sector 0, tables from 512, root
// directory, and clusters of 512 bytes. file.bin has clusters 2 to 4, then
// come the directories dir (5) and dir/sub (6).
func seedImage(t testing.TB) (b []byte, fatAt, rootAt, dataAt int) {
	f := build(t, fat.Options{Size: 64 << 10, Label: "SEED"}, tree{"FILE.BIN": noise(1100, 5), "dir/sub": nil})
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	perFAT := int(binary.LittleEndian.Uint16(b[22:]))
	return b, 512, 512 + 2*512*perFAT, 512 + 2*512*perFAT + 512*32
}

// setFAT12 changes entry c of a table.
func setFAT12(b []byte, c, v int) {
	at := c * 3 / 2
	old := binary.LittleEndian.Uint16(b[at:])
	if c%2 == 0 {
		binary.LittleEndian.PutUint16(b[at:], old&0xF000|uint16(v))
	} else {
		binary.LittleEndian.PutUint16(b[at:], old&0x000F|uint16(v)<<4)
	}
}

func TestReaderRefusesHostileVolumes(t *testing.T) {
	le := binary.LittleEndian
	_, fatAt, rootAt, dataAt := seedImage(t)
	// Root: label, FILE.BIN, the long and the short entry of dir.
	file, dir := rootAt+32, rootAt+96
	subLong := dataAt + 3*512 + 64
	cases := []struct {
		name, want string
		harm       func(b []byte)
	}{
		{"signature", "at offset 510", func(b []byte) { b[510] = 0 }},
		{"sector size", "0 bytes per sector at offset 11", func(b []byte) { le.PutUint16(b[11:], 0) }},
		{"cluster size", "3 sectors per cluster at offset 13", func(b []byte) { b[13] = 3 }},
		{"tables", "0 tables at offset 16", func(b []byte) { b[16] = 0 }},
		{"sectors", "beyond the 65536 bytes", func(b []byte) { le.PutUint16(b[19:], 129) }},
		{"table size", "beyond the volume", func(b []byte) { le.PutUint16(b[22:], 0xFFFF) }},
		{"root entries", "beyond the volume", func(b []byte) { le.PutUint16(b[17:], 0xFFFF) }},
		{"file loop", "a loop or a wrong size", func(b []byte) { setFAT12(b[fatAt:], 4, 2) }},
		{"file cut", "the chain ends after 1", func(b []byte) { setFAT12(b[fatAt:], 2, 0xFFF) }},
		{"file to a free cluster", "entry 3: cluster 0 is not one", func(b []byte) { setFAT12(b[fatAt:], 3, 0) }},
		{"file out of range", "cluster 4000 is not one", func(b []byte) { setFAT12(b[fatAt:], 3, 4000) }},
		{"file start", "cluster 65535 is not one", func(b []byte) { le.PutUint16(b[file+26:], 0xFFFF) }},
		{"file size", "size 4294967295 wants", func(b []byte) { le.PutUint32(b[file+28:], 0xFFFFFFFF) }},
		{"directory loop in the table", "a loop", func(b []byte) { setFAT12(b[fatAt:], 5, 5) }},
		{"directory is its own child", "a loop", func(b []byte) { le.PutUint16(b[subLong+32+26:], 5) }},
		{"directory start", "cluster 0 is not one", func(b []byte) { le.PutUint16(b[dir+26:], 0) }},
		{"slash", `has the name "FI/E.BIN"`, func(b []byte) { b[file+2] = '/' }},
		{"twice", `has the name of "FILE.BIN"`, func(b []byte) { copy(b[dir+32:dir+64], b[file:]) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, _, _, _ := seedImage(t)
			c.harm(b)
			err := readAll(b)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	t.Run("foreign short name", func(t *testing.T) { // the long name no longer belongs to it
		b, _, _, _ := seedImage(t)
		copy(b[dir:], "OTHER   ")
		fsys, err := fat.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fs.Stat(fsys, "OTHER/sub"); err != nil {
			t.Error(err)
		}
	})
}

func readAll(b []byte) error {
	fsys, err := fat.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	within := func(kind string, off, size int64) error {
		if off < 0 || size <= 0 || off+size > int64(len(b)) {
			panic(fmt.Sprintf("%s: %d bytes at %d of %d", kind, size, off, len(b)))
		}
		return nil
	}
	if err := fsys.Unused(within); err != nil {
		return err
	}
	budget := int64(4 * len(b)) // files may share clusters; do not read them for ever
	return fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || budget < 0 {
			return err
		}
		if err := fsys.Slack(p, within); err != nil || d.IsDir() {
			return err
		}
		f, err := fsys.Open(p)
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, f)
		budget -= n
		return err
	})
}

// FuzzOpen takes one of a few volumes and bytes to change in it, three a change:
// where among the bytes that matter, and the value. With a number beyond the
// volumes the bytes are the volume.
func FuzzOpen(f *testing.F) {
	seed, _, _, _ := seedImage(f)
	seeds := [][]byte{seed}
	// A FAT16 volume has at least 2 MiB, too much for a seed.
	for _, args := range [][]string{{"-F", "12"}, {"-F", "32", "-s", "1"}} {
		img := newImage(f, 128<<10)
		tool(f, "mkfs.vfat", append(args, "-r", "32", "-R", "8", "-n", "SEED", img.Name())...)
		b, err := os.ReadFile(img.Name())
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, b)
	}
	var places [][]int // in blocks of 32 that are not all zero
	for i, b := range seeds {
		places = append(places, nil)
		for at := 0; at < len(b); at += 32 {
			if !bytes.Equal(b[at:at+32], make([]byte, 32)) {
				for j := range 64 {
					places[i] = append(places[i], min(at+j, len(b)-1))
				}
			}
		}
		f.Add(byte(i), []byte{0, 13, 1, 0, 200, 255})
	}
	f.Add(byte(len(seeds)), seed[:512])
	f.Fuzz(func(t *testing.T, which byte, change []byte) {
		if int(which) >= len(seeds) {
			_ = readAll(change)
			return
		}
		b := bytes.Clone(seeds[which])
		for ; len(change) >= 3; change = change[3:] {
			b[places[which][int(binary.BigEndian.Uint16(change))%len(places[which])]] = change[2]
		}
		_ = readAll(b)
	})
}
