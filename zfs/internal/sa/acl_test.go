package sa

import (
	"slices"
	"strings"
	"testing"
)

// What follows from the mode is what a kernel makes of it. Left out are files made
// under a umask on a dataset with POSIX ACLs: there the kernel takes the umask off
// the mode after it has made the list.
func TestKernelTrivialACL(t *testing.T) {
	own := ownTable(t)
	for _, o := range kernelObjects(t, "testdata/linux-2.3.2.txt") {
		if strings.Contains(o.name, "created") {
			continue
		}
		want, err := o.table.Decode(o.bonus, o.spill)
		if err != nil {
			t.Fatal(err)
		}
		a := want
		a.ACL = nil
		a.Flags &= FlagXattr
		e, err := Encode(a, EncodeOptions{MaxSlots: 2, ProjID: true})
		if err != nil {
			t.Fatal(err)
		}
		got, err := own.Decode(e.Bonus, e.Spill)
		if err != nil {
			t.Fatal(err)
		}
		if got.Flags != want.Flags {
			t.Errorf("%s: mode %o: flags %#x, the kernel has %#x", o.name, a.Mode, got.Flags, want.Flags)
		}
		if !slices.Equal(got.ACL, want.ACL) {
			t.Errorf("%s: mode %o: ACL %x, the kernel has %x", o.name, a.Mode, got.ACL, want.ACL)
		}
	}
}

func TestTrivialACL(t *testing.T) {
	const everybody = 0x1200c8 &^ aceDeleteChild
	for _, tt := range []struct {
		mode uint64
		want []ACE
	}{
		{0o100644, []ACE{
			{Flags: aceOwner, Mask: 0x1e019f}, {Flags: aceGroup, Mask: 0x120089}, {Flags: aceEveryone, Mask: 0x120089},
		}},
		{0o40755, []ACE{
			{Flags: aceOwner, Mask: 0x1e01ff}, {Flags: aceGroup, Mask: 0x1200a9}, {Flags: aceEveryone, Mask: 0x1200a9},
		}},
		{0o100706, []ACE{
			{Flags: aceOwner, Mask: 0x7}, {Type: aceDeny, Flags: aceGroup, Mask: 0x7},
			{Flags: aceOwner, Mask: 0x1e01bf}, {Flags: aceGroup, Mask: everybody}, {Flags: aceEveryone, Mask: 0x12008f},
		}},
		{0o100060, []ACE{
			{Type: aceDeny, Flags: aceOwner, Mask: 0x7},
			{Flags: aceOwner, Mask: 0x1e0198}, {Flags: aceGroup, Mask: 0x12008f}, {Flags: aceEveryone, Mask: everybody},
		}},
	} {
		b, count := appendTrivial(nil, tt.mode)
		got, err := parseACL(b, count)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("mode %o: %x, want %x", tt.mode, got, tt.want)
		}
	}
}

func TestACLOfEveryKind(t *testing.T) {
	acl := []ACE{
		{Type: aceAllow, Flags: aceOwner, Mask: 1},
		{Type: aceDeny, Mask: 2, Who: 1000},
		{Type: aceAllow, Flags: 0x40, Mask: 3, Who: 5},
		{Type: 2, Flags: aceEveryone, Mask: 4, Who: 6},
		{Type: aceFirstObject, Mask: 7, Who: 8, Object: [16]byte{1}, Inherit: [16]byte{15: 2}},
	}
	b := appendACL(nil, acl)
	if want := 8 + 16 + 16 + 16 + 48; len(b) != want {
		t.Errorf("%d bytes, want %d", len(b), want)
	}
	got, err := parseACL(b, uint64(len(acl)))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, acl) {
		t.Errorf("%x, want %x", got, acl)
	}
	for n := range b {
		if _, err := parseACL(b[:n], uint64(len(acl))); err == nil {
			t.Errorf("no error at %d bytes of %d", n, len(b))
		}
	}
	if _, err := parseACL(b, 2); err == nil {
		t.Error("no error with bytes left")
	}
}
