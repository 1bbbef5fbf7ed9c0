package sa

import (
	"bytes"
	"strings"
	"testing"
)

// buffer makes a buffer with a header for one length.
func buffer(layout, words, length int, attrs ...byte) []byte {
	b := le.AppendUint32(nil, magic)
	b = le.AppendUint16(b, uint16(layout|words<<layoutBits))
	return append(le.AppendUint16(b, uint16(length)), attrs...)
}

func TestDecodeErrors(t *testing.T) {
	table := ownTable(t)
	e, err := Encode(kinds()["file"], EncodeOptions{ProjID: true})
	if err != nil {
		t.Fatal(err)
	}
	good := e.Bonus
	changed := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	symlink, dxattr := int(layoutNumbers[hasSymlink]), int(layoutNumbers[hasDXattr])
	for _, tt := range []struct {
		name         string
		bonus, spill []byte
		want         string
	}{
		{"nothing", nil, nil, "want a header"},
		{"magic", changed(0, 0), nil, "magic"},
		{"big-endian", changed(0, 0), nil, "magic"},
		{"layout", changed(4, 0xff), nil, "layout 255 is not declared"},
		{"empty", buffer(0, 1, 0), nil, "ZPL_MODE is missing"},
		{"header too short", changed(5, 0), nil, "header of 0 bytes"},
		{"header too long", changed(5, 0xfc), nil, "header of 504 bytes"},
		{"length", changed(6, 0xff), nil, "the buffer has"},
		{"entries", changed(144, 4), nil, "access control list of 4 entries"},
		{"fewer entries", changed(144, 2), nil, "behind an access control list"},
		{"short", good[:100], nil, "the buffer has"},
		{"short spill", good, make([]byte, 4), "spill block"},
		{"spill of zeros", good, make([]byte, 512), "magic 0x0"},
		{"xattrs", good, buffer(dxattr, 1, 8, make([]byte, 8)...), "decoding xattrs"},
		{"twice", good, good, "ZPL_MODE is both in the bonus buffer and in the spill block"},
		{"one missing", buffer(symlink, 1, 1, 'x'), nil, "ZPL_MODE is missing"},
	} {
		if _, err := table.Decode(tt.bonus, tt.spill); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for n := range good {
		if _, err := table.Decode(good[:n], nil); err == nil {
			t.Errorf("no error at %d bytes of %d", n, len(good))
		}
	}
}

func TestNewTableErrors(t *testing.T) {
	for _, tt := range []struct {
		name     string
		registry map[string]uint64
		layouts  map[uint16][]uint16
		want     string
	}{
		{"one number twice", map[string]uint64{"A": 30, "B": 30}, nil, `"A" and "B" are both number 30`},
		{"length", map[string]uint64{"ZPL_MODE": 5 | 16<<24}, nil, `"ZPL_MODE" has 16 bytes, want 8`},
		{"unknown attribute", nil, map[uint16][]uint16{2: {99}}, "layout 2 of system attributes: attribute 99 is not registered"},
		{"attribute twice", nil, map[uint16][]uint16{2: {5, 5}}, "attribute 5 is there twice"},
		{"number", nil, map[uint16][]uint16{1024: {5}}, "at most 1023"},
		{"huge", nil, map[uint16][]uint16{2: make([]uint16, maxAttrs+1)}, "at most 4096 attributes"},
	} {
		if _, err := NewTable(tt.registry, tt.layouts); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// Other numbers and attributes of others are no obstacle.
func TestDecodeForeignTable(t *testing.T) {
	e, err := Encode(kinds()["symlink"], EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	table, err := NewTable(map[string]uint64{
		"ZPL_DACL_COUNT": 40 | 8<<24, "ZPL_DACL_ACES": 41, "ZPL_SYMLINK": 16, "OTHER": 17 | 8<<24, "VARIES": 18,
	}, map[uint16][]uint16{700: {5, 6, 4, 12, 13, 7, 11, 0, 1, 2, 3, 8, 40, 41, 16, 17, 18}})
	if err != nil {
		t.Fatal(err)
	}
	b := append(bytes.Clone(e.Bonus), make([]byte, 7+8+5)...)
	le.PutUint16(b[4:], 700|2<<layoutBits)
	le.PutUint16(b[10:], 5)
	a, err := table.Decode(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Symlink != "x" || len(a.ACL) != 3 || a.Mode != 0o120777 {
		t.Errorf("%+v", a)
	}
}

func BenchmarkDecode(b *testing.B) {
	table := ownTable(b)
	e, err := Encode(kinds()["file"], EncodeOptions{ProjID: true})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := table.Decode(e.Bonus, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, o := range kernelObjects(f, "testdata/linux-2.3.2.txt") {
		f.Add(o.bonus, o.spill)
	}
	table := ownTable(f)
	f.Fuzz(func(t *testing.T, bonus, spill []byte) {
		for _, s := range [][]byte{nil, spill} {
			a, err := table.Decode(bonus, s)
			if err != nil {
				continue
			}
			e, err := Encode(a, EncodeOptions{MaxSlots: 2, ProjID: true})
			if err != nil {
				continue
			}
			if _, err := table.Decode(e.Bonus, e.Spill); err != nil {
				t.Fatalf("what was encoded of %+v: %v", a, err)
			}
		}
	})
}

func FuzzNewTable(f *testing.F) {
	f.Add("ZPL_DXATTR", uint64(0x30014), uint16(2), []byte{5, 0, 6, 0}, buffer(2, 1, 0))
	f.Fuzz(func(t *testing.T, name string, value uint64, number uint16, layout, bonus []byte) {
		var attrs []uint16
		for ; len(layout) >= 2; layout = layout[2:] {
			attrs = append(attrs, le.Uint16(layout))
		}
		table, err := NewTable(map[string]uint64{name: value}, map[uint16][]uint16{number: attrs})
		if err == nil {
			_, _ = table.Decode(bonus, bonus)
		}
	})
}
