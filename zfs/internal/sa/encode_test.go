package sa

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func BenchmarkEncode(b *testing.B) {
	a := Attrs{Mode: 0o100644, Size: 12345, Gen: 4, UID: 1000, GID: 1000, Parent: 34, Links: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Encode(a, EncodeOptions{MaxSlots: 2, ProjID: true}); err != nil {
			b.Fatal(err)
		}
	}
}

func repeat(n int) []byte { return make([]byte, n) }

// kinds makes an object of every kind, with links of one byte.
func kinds() map[string]Attrs {
	common := Attrs{
		Size: 1, Gen: 4, UID: 1000, GID: 65534, Parent: 34, Links: 1,
		ATime: Time{1, 2}, MTime: Time{-3, 4}, CTime: Time{5, 6}, CRTime: Time{7, 999999999},
	}
	l := map[string]Attrs{}
	for name, mode := range map[string]uint64{
		"file": 0o100644, "odd": 0o104707, "directory": 0o41777, "fifo": 0o10600,
		"socket": 0o140755, "character": 0o20620, "block": 0o60660, "symlink": 0o120777,
	} {
		a := common
		a.Mode = mode
		switch mode & typeMask {
		case typeChar, typeBlock:
			a.Rdev = Rdev(259, 70000)
		case typeSymlink:
			a.Symlink = "x"
		case typeRegular, typeDir:
			a.ProjID = 9
		}
		l[name] = a
	}
	return l
}

func TestSizes(t *testing.T) {
	with := func(kind string, link int, xattr int, dir uint64) Attrs {
		a := kinds()[kind]
		if link > 0 {
			a.Symlink, a.Size = strings.Repeat("L", link), uint64(link)
		}
		if xattr > 0 {
			a.Xattrs = map[string][]byte{"user.x": repeat(xattr)}
		}
		a.XattrObj = dir
		return a
	}
	for _, tt := range []struct {
		name                string
		a                   Attrs
		maxSlots            int
		project             bool
		bonus, spill, slots int
	}{
		{"file", with("file", 0, 0, 0), 1, false, 168, 0, 1},
		{"file with project", with("file", 0, 0, 0), 2, true, 176, 0, 1},
		{"mode 4707", with("odd", 0, 0, 0), 0, true, 192, 0, 1},
		{"directory", with("directory", 0, 0, 0), 1, true, 176, 0, 1},
		{"fifo has no project", with("fifo", 0, 0, 0), 1, true, 168, 0, 1},
		{"socket has no project", with("socket", 0, 0, 0), 1, true, 168, 0, 1},
		{"device has no project", with("block", 0, 0, 0), 1, true, 176, 0, 1},
		{"symlink", with("symlink", 5, 0, 0), 1, true, 181, 0, 1},
		{"longest symlink of one slot", with("symlink", 144, 0, 0), 2, true, 320, 0, 1},
		{"symlink of two slots", with("symlink", 145, 0, 0), 2, true, 321, 0, 2},
		{"symlink of one slot with spill", with("symlink", 145, 0, 0), 1, true, 192, 512, 1},
		{"longest symlink of two slots", with("symlink", 656, 0, 0), 2, true, 832, 0, 2},
		{"longer", with("symlink", 657, 0, 0), 2, true, 192, 1024, 1},
		{"longest", with("symlink", 4095, 0, 0), 2, true, 192, 4608, 1},
		{"short symlink stays, xattr spills", with("symlink", 8, 300, 0), 1, true, 192, 512, 1},
		{"xattr", with("file", 0, 80, 0), 2, true, 312, 0, 1},
		{"longest xattr of one slot", with("file", 0, 88, 0), 2, true, 320, 0, 1},
		{"xattr of two slots", with("file", 0, 89, 0), 2, true, 324, 0, 2},
		{"xattr of one slot with spill", with("file", 0, 89, 0), 1, true, 192, 512, 1},
		{"xattr directory", with("file", 0, 0, 77), 1, true, 184, 0, 1},
		{"both", with("file", 0, 32768, 77), 2, true, 192, 33280, 1},
	} {
		e, err := Encode(tt.a, EncodeOptions{MaxSlots: tt.maxSlots, ProjID: tt.project})
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Bonus) != tt.bonus || len(e.Spill) != tt.spill || e.Slots != tt.slots {
			t.Errorf("%s: bonus %d, spill %d, slots %d; want %d, %d, %d",
				tt.name, len(e.Bonus), len(e.Spill), e.Slots, tt.bonus, tt.spill, tt.slots)
		}
	}
}

func TestEncodeErrors(t *testing.T) {
	for name, change := range map[string]func(a *Attrs){
		"symlink to nowhere":   func(a *Attrs) { a.Mode, a.Symlink = 0o120777, "" },
		"symlink of 4096":      func(a *Attrs) { a.Mode, a.Symlink, a.Size = 0o120777, string(repeat(4096)), 4096 },
		"symlink of no length": func(a *Attrs) { a.Mode, a.Symlink, a.Size = 0o120777, "abc", 0 },
		"target of a file":     func(a *Attrs) { a.Symlink = "abc" },
		"xattr without a name": func(a *Attrs) { a.Xattrs = map[string][]byte{"": nil} },
		"name with a NUL":      func(a *Attrs) { a.Xattrs = map[string][]byte{"user.\x00": nil} },
		"name of 256":          func(a *Attrs) { a.Xattrs = map[string][]byte{strings.Repeat("n", 256): nil} },
		"xattr of 65535":       func(a *Attrs) { a.Xattrs = map[string][]byte{"user.x": repeat(65535)} },
		"huge ACL":             func(a *Attrs) { a.ACL = make([]ACE, 10000) },
	} {
		a := kinds()["file"]
		change(&a)
		if _, err := Encode(a, EncodeOptions{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// randomAttrs varies what decides how attributes part.
func randomAttrs(r *rand.Rand, a Attrs) Attrs {
	a.Mode ^= r.Uint64() & 0o7777
	if a.Symlink != "" {
		a.Symlink = strings.Repeat("é", 1+r.IntN(2047))[r.IntN(2):]
		if r.IntN(2) == 0 {
			a.Symlink = a.Symlink[:1+r.IntN(min(len(a.Symlink), 200))]
		}
		a.Size = uint64(len(a.Symlink))
	}
	if r.IntN(2) == 0 {
		a.XattrObj = r.Uint64()
	}
	for range r.IntN(3) {
		if a.Xattrs == nil {
			a.Xattrs = map[string][]byte{}
		}
		a.Xattrs[fmt.Sprintf("user.%d\xff", r.IntN(1000))] = repeat(r.IntN(1 << r.IntN(14)))
	}
	for range r.IntN(2) * r.IntN(40) {
		a.ACL = append(a.ACL, ACE{Type: uint16(r.IntN(2)), Flags: aceOwner, Mask: r.Uint32()})
	}
	return a
}

// What is encoded decodes to the same, fits where it goes, and its layouts are
// among those declared. Encoding twice gives the same bytes.
func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	table := ownTable(t)
	for range 60 {
		for name, a := range kinds() {
			a = randomAttrs(r, a)
			o := EncodeOptions{MaxSlots: r.IntN(3), ProjID: true}
			e, err := Encode(a, o)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Encode(a, o)
			if err != nil || !cmp.Equal(e, again) {
				t.Fatalf("%s: the second time it is different, %v", name, err)
			}
			room := 512*e.Slots - 192
			if e.Spill != nil {
				room -= 128
			}
			if len(e.Bonus) > room || e.Slots > max(1, o.MaxSlots) || len(e.Spill)%512 != 0 {
				t.Fatalf("%s: bonus %d, spill %d, slots %d", name, len(e.Bonus), len(e.Spill), e.Slots)
			}
			got, err := table.Decode(e.Bonus, e.Spill)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := a
			want.Flags |= a.impliedFlags(a.present(o))
			if a.ACL == nil {
				got.ACL = nil
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(func(x, y map[string][]byte) bool {
				return maps.EqualFunc(x, y, func(v, w []byte) bool { return string(v) == string(w) })
			})); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

// The numbers have no gap: the kernel numbers what it adds by how many there are.
func TestLayoutsAndRegistry(t *testing.T) {
	seen := map[string]bool{}
	for i, l := range Layouts() {
		if int(l.Number) != firstLayout+i || seen[fmt.Sprint(l.Attrs)] {
			t.Errorf("layout %d: number %d, attributes %v", i, l.Number, l.Attrs)
		}
		seen[fmt.Sprint(l.Attrs)] = true
	}
	want := map[string]uint64{ // as zdb shows them of a pool that a kernel made
		"ZPL_SCANSTAMP": 0x20030012, "ZPL_MODE": 0x8000005, "ZPL_MTIME": 0x10000001, "ZPL_DACL_COUNT": 0x8000010,
		"ZPL_CTIME": 0x10000002, "ZPL_FLAGS": 0x800000b, "ZPL_GEN": 0x8000004, "ZPL_SIZE": 0x8000006,
		"ZPL_UID": 0x800000c, "ZPL_SYMLINK": 0x30011, "ZPL_ZNODE_ACL": 0x5803000f, "ZPL_XATTR": 0x8000009,
		"ZPL_PAD": 0x2000000e, "ZPL_CRTIME": 0x10000003, "ZPL_LINKS": 0x8000008, "ZPL_ATIME": 0x10000000,
		"ZPL_DXATTR": 0x30014, "ZPL_DACL_ACES": 0x40013, "ZPL_RDEV": 0x800000a, "ZPL_PARENT": 0x8000007,
		"ZPL_PROJID": 0x8000015, "ZPL_GID": 0x800000d,
	}
	if diff := cmp.Diff(want, registryMap()); diff != "" {
		t.Error(diff)
	}
}

func TestRdev(t *testing.T) {
	for _, o := range kernelObjects(t, "testdata/linux-2.1.11.txt") {
		a, err := o.table.Decode(o.bonus, o.spill)
		if err != nil {
			t.Fatal(err)
		}
		want, there := map[string][2]uint32{"blk": {259, 70000}, "chr": {10, 223}, "bigmaj": {4000, 1048575}}[o.name]
		if !there {
			continue
		}
		if a.Rdev != Rdev(want[0], want[1]) {
			t.Errorf("%v: %#x, the kernel wrote %#x", want, Rdev(want[0], want[1]), a.Rdev)
		}
		if major, minor := Device(a.Rdev); major != want[0] || minor != want[1] {
			t.Errorf("%d:%d, want %v", major, minor, want)
		}
	}
}

// As a kernel did it when it was told to set these xattrs in this order.
func TestSplitXattrs(t *testing.T) {
	all := map[string][]byte{}
	for i := 1; i <= 6; i++ {
		if i <= 3 {
			all[fmt.Sprintf("user.m%d", i)] = repeat(25000)
		}
		all[fmt.Sprintf("user.n%d", i)] = repeat(10000)
	}
	inSA, inDir := SplitXattrs(all)
	names := func(m map[string][]byte) string { return strings.Join(sortedNames(m), " ") }
	if got, want := names(inSA), "user.m1 user.m2 user.n1"; got != want {
		t.Errorf("in SA %s, want %s", got, want)
	}
	if got, want := names(inDir), "user.m3 user.n2 user.n3 user.n4 user.n5 user.n6"; got != want {
		t.Errorf("in the directory %s, want %s", got, want)
	}
	inSA, inDir = SplitXattrs(map[string][]byte{"user.b": repeat(32769)})
	if inSA != nil || len(inDir) != 1 {
		t.Errorf("of one large value: in SA %s, in the directory %s", names(inSA), names(inDir))
	}
	if inSA, inDir = SplitXattrs(nil); inSA != nil || inDir != nil {
		t.Errorf("of none: in SA %s, in the directory %s", names(inSA), names(inDir))
	}
	for n := 32700; n <= 32768; n++ { // just below, at and above the limit of the list
		xattrs := map[string][]byte{"user.1": repeat(n), "user.2": repeat(n)}
		if inSA, inDir = SplitXattrs(xattrs); len(inSA)+len(inDir) != 2 {
			t.Fatalf("two values of %d: %d and %d", n, len(inSA), len(inDir))
		}
		for name, x := range map[string]map[string][]byte{"kept": inSA, "all": xattrs} {
			_, err := packXattrs(x)
			if fits := name == "kept" || len(inDir) == 0; fits != (err == nil) {
				t.Errorf("two values of %d, %s: %v", n, name, err)
			}
		}
	}
}

func TestXattrName(t *testing.T) {
	for stored, want := range map[string]string{
		"user.a": "user.a", "security.capability": "security.capability", "system.posix_acl_access": "system.posix_acl_access",
		"trusted.t": "trusted.t", "plain": "user.plain", "users": "user.users",
	} {
		if got := XattrName(stored); got != want {
			t.Errorf("%q: %q, want %q", stored, got, want)
		}
	}
}
