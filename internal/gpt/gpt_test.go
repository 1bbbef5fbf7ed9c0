package gpt_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kldload/kldload/internal/gpt"
)

const mib = 1 << 20

func guid(t testing.TB, s string) gpt.GUID {
	t.Helper()
	g, err := gpt.ParseGUID(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func sample(t testing.TB, sector int) gpt.Table {
	return gpt.Table{
		DiskGUID:   guid(t, "0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0"),
		SectorSize: sector,
		Size:       64 * mib,
		Partitions: []gpt.Partition{
			{Number: 3, Type: gpt.TypeLinuxRootX8664, GUID: guid(t, "00000000-0000-4000-8000-000000000003"), Name: "root ü 𝄞", Start: 20 * mib, Size: 40 * mib, Attributes: gpt.AttrGrowFS},
			{Number: 1, Type: gpt.TypeESP, GUID: guid(t, "00000000-0000-4000-8000-000000000001"), Name: "esp", Start: 1 * mib, Size: 16 * mib, Attributes: gpt.AttrRequired},
			{Number: 2, Type: gpt.TypeZFS, GUID: guid(t, "00000000-0000-4000-8000-000000000002"), Name: strings.Repeat("z", 36), Start: 60 * mib, Size: 2 * mib},
		},
	}
}

// disk makes a sparse image of the table's size, with the table on it.
func disk(t testing.TB, table gpt.Table) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(table.Size); err != nil {
		t.Fatal(err)
	}
	if err := gpt.Write(f, table); err != nil {
		t.Fatal(err)
	}
	return f
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestWriteJudgedBySgdiskAndSfdisk(t *testing.T) {
	f := disk(t, sample(t, 512))
	if out := tool(t, "sgdisk", "-v", f.Name()); !strings.Contains(out, "No problems found") || strings.Contains(out, "Caution") {
		t.Errorf("sgdisk -v: %s", out)
	}
	if out := tool(t, "sfdisk", "--verify", f.Name()); !strings.Contains(out, "No errors detected") {
		t.Errorf("sfdisk --verify: %s", out)
	}
	var got struct {
		PartitionTable struct {
			Label, ID  string
			Partitions []struct {
				Node, Type, UUID, Name, Attrs string
				Start, Size                   int64
			}
		}
	}
	if err := json.Unmarshal([]byte(tool(t, "sfdisk", "--json", f.Name())), &got); err != nil {
		t.Fatal(err)
	}
	if got.PartitionTable.ID != sample(t, 512).DiskGUID.String() || got.PartitionTable.Label != "gpt" {
		t.Errorf("sfdisk --json: %+v", got.PartitionTable)
	}
	want := map[string]gpt.Partition{}
	for _, p := range sample(t, 512).Partitions {
		want[p.GUID.String()] = p
	}
	for _, p := range got.PartitionTable.Partitions {
		w, ok := want[p.UUID]
		if !ok || p.Type != w.Type.String() || p.Name != w.Name || p.Start*512 != w.Start || p.Size*512 != w.Size || !strings.HasSuffix(p.Node, string('0'+rune(w.Number))) {
			t.Errorf("sfdisk says %+v, want %+v", p, w)
		}
	}
	if len(got.PartitionTable.Partitions) != len(want) {
		t.Errorf("sfdisk sees %d partitions, want %d", len(got.PartitionTable.Partitions), len(want))
	}
}

func TestWriteJudgedWith4096ByteSectors(t *testing.T) {
	f := disk(t, sample(t, 4096))
	// sfdisk 2.38 and sgdisk take the sector size from a block device only;
	// partx of the same util-linux reads a file with a given one, and prints units of 512 bytes.
	out := tool(t, "partx", "--sector-size", "4096", "--raw", "--noheadings", "--output", "NR,START,END,TYPE,UUID", f.Name())
	want := strings.ToLower(`1 2048 34815 ` + gpt.TypeESP.String() + ` 00000000-0000-4000-8000-000000000001
2 122880 126975 ` + gpt.TypeZFS.String() + ` 00000000-0000-4000-8000-000000000002
3 40960 122879 ` + gpt.TypeLinuxRootX8664.String() + ` 00000000-0000-4000-8000-000000000003
`)
	if d := cmp.Diff(want, out); d != "" {
		t.Error(d)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		want := sample(t, sector)
		f := disk(t, want)
		got, err := gpt.Read(f, want.Size)
		if err != nil {
			t.Fatal(err)
		}
		want.Partitions = []gpt.Partition{want.Partitions[1], want.Partitions[2], want.Partitions[0]}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("sector %d: %s", sector, d)
		}
		again := disk(t, got)
		a, b := slurp(t, f), slurp(t, again)
		if !bytes.Equal(a, b) {
			t.Errorf("sector %d: writing what was read gives other bytes", sector)
		}
	}
}

func slurp(t testing.TB, f *os.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadTableOfSgdisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64*mib); err != nil {
		t.Fatal(err)
	}
	tool(t, "sgdisk", "-a", "1", "-n", "14:34:2047", "-t", "14:ef02", "-n", "15:2048:+16M", "-t", "15:ef00", "-c", "15:EFI system",
		"-n", "1:0:0", "-t", "1:8304", "-A", "1:set:59", path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := gpt.Read(f, 64*mib)
	if err != nil {
		t.Fatal(err)
	}
	if got.Problem != "" || got.FromBackup || len(got.Partitions) != 3 {
		t.Fatalf("got %+v", got)
	}
	byNumber := map[int]gpt.Partition{}
	for _, p := range got.Partitions {
		p.GUID = gpt.GUID{}
		byNumber[p.Number] = p
	}
	want := gpt.Partition{Number: 15, Type: gpt.TypeESP, Name: "EFI system", Start: mib, Size: 16 * mib}
	if d := cmp.Diff(want, byNumber[15]); d != "" {
		t.Error(d)
	}
	if p := byNumber[14]; p.Type != gpt.TypeBIOSBoot || p.Start != 34*512 || p.End() != mib {
		t.Errorf("partition 14: %+v", p)
	}
	if p := byNumber[1]; p.Type != gpt.TypeLinuxRootX8664 || p.Attributes != gpt.AttrGrowFS {
		t.Errorf("partition 1: %+v", p)
	}
}

func TestReadFallsBack(t *testing.T) {
	cases := []struct {
		name    string
		harm    func(b []byte)
		backup  bool
		problem string
	}{
		{"primary header", func(b []byte) { b[512+40]++ }, true, "primary table: header in sector 1 of 512 bytes: checksum"},
		{"primary signature", func(b []byte) { b[512]++ }, true, "no signature"},
		{"primary entries", func(b []byte) { b[1024+56]++ }, true, "primary table: partition entries at offset 1024: checksum"},
		{"backup header", func(b []byte) { b[len(b)-512]++ }, false, "backup table: header in sector 131071"},
		{"backup entries", func(b []byte) { b[len(b)-33*512]++ }, false, "backup table: partition entries"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := slurp(t, disk(t, sample(t, 512)))
			c.harm(b)
			got, err := gpt.Read(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if got.FromBackup != c.backup || !strings.Contains(got.Problem, c.problem) || len(got.Partitions) != 3 {
				t.Errorf("got %+v, want problem %q", got, c.problem)
			}
		})
	}
	t.Run("grown disk", func(t *testing.T) {
		b := append(slurp(t, disk(t, sample(t, 512))), make([]byte, mib)...)
		got, err := gpt.Read(bytes.NewReader(b), int64(len(b)))
		if err != nil || !strings.Contains(got.Problem, "not in the last sector 133119") {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("both", func(t *testing.T) {
		b := slurp(t, disk(t, sample(t, 512)))
		b[512+40]++
		b[len(b)-512+40]++
		_, err := gpt.Read(bytes.NewReader(b), int64(len(b)))
		if err == nil || !strings.Contains(err.Error(), "sector 1 ") || !strings.Contains(err.Error(), "; backup: header in sector 131071") {
			t.Errorf("got %v", err)
		}
	})
}

// reseal makes the checksums of the primary copy right again, and spoils the backup.
func reseal(b []byte, sector int) {
	le := binary.LittleEndian
	h := b[sector : 2*sector]
	count, size := int64(le.Uint32(h[80:])), int64(le.Uint32(h[84:]))
	if start := int64(2 * sector); size <= 4096 && count*size <= int64(len(b))-start {
		le.PutUint32(h[88:], crc32.ChecksumIEEE(b[start:start+count*size]))
	}
	clear(h[16:20])
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	b[len(b)-sector] = 0
}

func TestReadRefusesHostileTables(t *testing.T) {
	le := binary.LittleEndian
	cases := []struct {
		name, want string
		harm       func(b []byte)
	}{
		{"entry count", "entries of 128 bytes", func(b []byte) { le.PutUint32(b[512+80:], 0xFFFFFFFF) }},
		{"entry size", "entry size 129", func(b []byte) { le.PutUint32(b[512+84:], 129) }},
		{"entries LBA", "bytes of entries in sector", func(b []byte) { le.PutUint64(b[512+72:], 1<<63) }},
		{"own LBA", "says it lies in sector 7", func(b []byte) { le.PutUint64(b[512+24:], 7) }},
		{"usable", "usable sectors", func(b []byte) { le.PutUint64(b[512+48:], 1<<62) }},
		{"past the end", "partition entry 1 at offset 1024: sectors 2048 to", func(b []byte) { le.PutUint64(b[1024+40:], 1<<40) }},
		{"reversed", "outside the usable", func(b []byte) { le.PutUint64(b[1024+40:], 2000) }},
		{"overlap", "inside partition 1", func(b []byte) { le.PutUint64(b[1024+40:], 21*2048) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := slurp(t, disk(t, sample(t, 512)))
			c.harm(b)
			reseal(b, 512)
			_, err := gpt.Read(bytes.NewReader(b), int64(len(b)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

type refuse struct{}

func (refuse) WriteAt([]byte, int64) (int, error) { return 0, errors.New("must not be written to") }

func TestWriteRefuses(t *testing.T) {
	cases := []struct {
		want string
		harm func(*gpt.Table)
	}{
		{`partition 2 "zzz`, func(t *gpt.Table) { t.Partitions[2].Start = 59 * mib }},
		{"outside the usable bytes", func(t *gpt.Table) { t.Partitions[2].Size = 4 * mib }},
		{"outside the usable bytes", func(t *gpt.Table) { t.Partitions[2].Size = 1<<63 - 512 }},
		{"not a multiple of 1048576", func(t *gpt.Table) { t.Partitions[1].Start += 512 }},
		{"name has 37 UTF-16 units", func(t *gpt.Table) { t.Partitions[0].Name = strings.Repeat("x", 35) + "𝄞" }},
		{"number 129", func(t *gpt.Table) { t.Partitions[0].Number = 129 }},
		{"two partitions have number 1", func(t *gpt.Table) { t.Partitions[0].Number = 1 }},
		{"share the GUID", func(t *gpt.Table) { t.Partitions[0].GUID = t.Partitions[1].GUID }},
		{"type GUID is zero", func(t *gpt.Table) { t.Partitions[0].Type = gpt.GUID{} }},
		{"disk GUID is zero", func(t *gpt.Table) { t.DiskGUID = gpt.GUID{} }},
		{"sector size 520", func(t *gpt.Table) { t.SectorSize = 520 }},
		{"whole number of 512-byte sectors", func(t *gpt.Table) { t.Size++ }},
		{"no room for a partition", func(t *gpt.Table) { t.Size = 67 * 512 }},
		{"whole 512-byte sectors", func(t *gpt.Table) { t.Partitions[0].Size++ }},
	}
	for _, c := range cases {
		table := sample(t, 512)
		c.harm(&table)
		if err := gpt.Write(refuse{}, table); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestAlignAllowsBIOSBoot(t *testing.T) {
	table := sample(t, 512)
	table.Align = 512
	table.Partitions[0] = gpt.Partition{Type: gpt.TypeBIOSBoot, Number: 14, GUID: table.Partitions[0].GUID, Start: 34 * 512, Size: mib - 34*512}
	if out := tool(t, "sgdisk", "-v", disk(t, table).Name()); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %s", out)
	}
}

func TestGUIDText(t *testing.T) {
	g := guid(t, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	if g != gpt.TypeESP || g.String() != "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" || g[0] != 0x28 {
		t.Errorf("got %v % x", g, g[:])
	}
	for _, bad := range []string{"", "C12A7328F81F11D2BA4B00A0C93EC93B", "C12A7328-F81F-11D2-BA4B-00A0C93EC93G", "C12A7328-F81F-11D2-BA4B--0A0C93EC93B"} {
		if _, err := gpt.ParseGUID(bad); err == nil {
			t.Errorf("ParseGUID(%q): no error", bad)
		}
	}
}

// FuzzRead takes a disk with 512- or 4096-byte sectors and bytes to change in
// its header and first entries, two a change: where and the value; with the
// checksums made right again or not. With a larger number the bytes are the disk.
func FuzzRead(f *testing.F) {
	var seeds [][]byte
	for i, ss := range []int64{512, 4096} {
		table := gpt.Table{DiskGUID: guid(f, "0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0"), SectorSize: int(ss), Size: 3*ss + 2*16384 + 8*ss, Align: ss}
		start, _ := table.Usable()
		table.Partitions = []gpt.Partition{{Type: gpt.TypeESP, GUID: table.DiskGUID, Name: "a", Start: start, Size: 4 * ss}}
		seeds = append(seeds, slurp(f, disk(f, table)))
		f.Add(byte(i), true, []byte{80, 1, 96 + 32, 1})
	}
	f.Add(byte(2), false, seeds[0][:2048])
	f.Fuzz(func(t *testing.T, which byte, right bool, change []byte) {
		if int(which) >= len(seeds) {
			readSound(t, change)
			return
		}
		b, sector := bytes.Clone(seeds[which]), 512<<(3*which)
		for ; len(change) >= 2; change = change[2:] {
			at := sector + int(change[0])
			if at >= sector+96 { // beyond the header: the entries
				at += sector - 96
			}
			b[at] = change[1]
		}
		if right {
			reseal(b, sector)
		}
		readSound(t, b)
	})
}

// readSound reads b as a disk and holds what comes back to its bounds.
func readSound(t *testing.T, b []byte) {
	got, err := gpt.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return
	}
	for _, p := range got.Partitions {
		if p.Start < 0 || p.Size <= 0 || p.End() > int64(len(b)) {
			t.Errorf("partition outside the disk: %+v", p)
		}
	}
}
