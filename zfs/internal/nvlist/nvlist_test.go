package nvlist

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func everyType() List {
	return List{
		{"flag", Boolean{}},
		{"yes", true},
		{"no", false},
		{"byte", Byte(200)},
		{"int8", int8(-3)},
		{"uint8", uint8(250)},
		{"int16", int16(-300)},
		{"uint16", uint16(65000)},
		{"int32", int32(-70000)},
		{"uint32", uint32(1 << 31)},
		{"int64", int64(-1)},
		{"uint64", uint64(1 << 63)},
		{"double", 2.5},
		{"hrtime", HRTime(12345678901)},
		{"string", "rpool"},
		{"empty", ""},
		{"bytes", []byte{1, 2, 3, 4, 5}},
		{"no bytes", []byte{}},
		{"bools", []bool{true, false, true}},
		{"int8s", []int8{-1, 2}},
		{"uint8s", Uint8s{1, 255}},
		{"int16s", []int16{-1, 2}},
		{"uint16s", []uint16{1, 65535}},
		{"int32s", []int32{-1, 2}},
		{"uint32s", []uint32{1, 1 << 31}},
		{"int64s", []int64{-1, 2}},
		{"uint64s", []uint64{1, 1 << 63}},
		{"strings", []string{"a", "", "three"}},
		{"list", List{{"inner", List{{"type", "disk"}}}}},
		{"lists", []List{{{"id", uint64(0)}}, {{"id", uint64(1)}}}},
	}
}

func TestEveryTypeComesBack(t *testing.T) {
	want := everyType()
	b, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(append(b, 0, 0, 0, 7))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	b[1] = 0 // packed by a big-endian machine: XDR is the same
	if got, err = Decode(b); err != nil || !cmp.Equal(want, got) {
		t.Errorf("with the other byte order: %v", err)
	}
}

// The label and the configuration were written by OpenZFS 2.1.11: the same pairs
// give the same bytes, with the sizes kernels want for their memory.
func TestKernelsListsEncodeAlike(t *testing.T) {
	for _, file := range []string{"label-2.1.11.nvl", "config-2.1.11.nvl"} {
		want := readFile(t, file)
		l, err := Decode(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Encode(l)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(want, got) || len(bytes.Trim(want[len(got):], "\x00")) > 0 {
			t.Errorf("%s: the bytes differ:\n%s", file, cmp.Diff(hex.Dump(want), hex.Dump(got)))
		}
		if name, ok := l.String("name"); name != "rpool" || !ok {
			t.Errorf("%s: name %q", file, name)
		}
		tree, ok := l.List("vdev_tree")
		if guid, has := l.Uint64("pool_guid"); guid != 17604890144558103244 || !has || !ok {
			t.Errorf("%s: pool_guid %d, vdev_tree %v", file, guid, ok)
		}
		if kids, ok := tree.Lists("children"); ok && !kids[0].Has("com.delphix:vdev_zap_top") {
			t.Errorf("%s: child %v", file, kids[0])
		}
	}
}

func TestNativeHistoryRecord(t *testing.T) {
	got, err := Decode(readFile(t, "history-2.1.11.nvl"))
	if err != nil {
		t.Fatal(err)
	}
	snaps := List{}
	for _, name := range []string{"rpool", "rpool/log", "rpool/ROOT", "rpool/ROOT/default", "rpool/big"} {
		snaps = append(snaps, Pair{name + "@golden", Boolean{}})
	}
	want := List{
		{"ioctl", "snapshot"},
		{"in_nvl", List{{"snaps", snaps}, {"props", List(nil)}}},
		{"elapsed_ns", int64(259876050)},
		{"history zone", "linux"},
		{"history who", uint64(0)},
		{"history time", uint64(1795380349)},
		{"history hostname", "(none)"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNativeArrays(t *testing.T) {
	pair := func(name string, elems, kind int, value string) string {
		head := name + strings.Repeat("\x00", align8(pairSize+len(name)+1)-pairSize-len(name))
		value += strings.Repeat("\x00", align8(len(value))-len(value))
		return le4(pairSize+len(head)+len(value)) + string([]byte{byte(len(name) + 1), 0, 0, 0}) + le4(elems) + le4(kind) + head + value
	}
	b := "\x00\x01\x00\x00" + le4(version) + le4(uniqueName) +
		pair("u16", 2, typeUint16Array, "\x01\x02\xff\xff") +
		pair("i8", 1, typeInt8, "\xff") +
		pair("strings", 2, typeStringArray, strings.Repeat("\x00", 16)+"a\x00bc\x00") +
		pair("raw", 3, typeByteArray, "xyz") +
		pair("lists", 2, typeListArray, strings.Repeat("\x00", 64)) +
		pair("id", 1, typeUint64, "\x07\x00\x00\x00\x00\x00\x00\x00") + le4(0) + le4(0) +
		le4(0)
	got, err := Decode([]byte(b))
	if err != nil {
		t.Fatal(err)
	}
	want := List{
		{"u16", []uint16{0x201, 0xffff}}, {"i8", int8(-1)}, {"strings", []string{"a", "bc"}},
		{"raw", []byte("xyz")}, {"lists", []List{{{"id", uint64(7)}}, nil}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func le4(v int) string { return string([]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}) }

func TestEncodeRefuses(t *testing.T) {
	deep := List{}
	for range maxDepth + 1 {
		deep = List{{"in", deep}}
	}
	for _, c := range []struct {
		list List
		want string
	}{
		{List{{"a", uint64(1)}, {"a", uint64(2)}}, `name "a" is empty or there twice`},
		{List{{"", uint64(1)}}, "is empty"},
		{List{{"a\x00b", uint64(1)}}, "holds a NUL"},
		{List{{"a", "b\x00"}}, "holds a NUL"},
		{List{{"a", 7}}, `"a": a value of type int has no encoding`},
		{List{{"a", nil}}, "has no encoding"},
		{List{{strings.Repeat("n", 1<<15), true}}, "name of 32768 bytes"},
		{deep, "deeper than 32"},
	} {
		if _, err := Encode(c.list); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct{ hex, want string }{
		{"0101", "2 bytes, wanted a header of 4"},
		{"02010000", "encoding 2, wanted 0 (native) or 1 (XDR)"},
		{"01020000", "byte order 2"},
		{"00000000", "native encoding of a big-endian machine"},
		{"01010000" + "00000001" + "00000000", "version 1, wanted 0"},
		{"01010000" + "00000000", "goes on past the end"},
		{"01010000" + "0000000000000001" + "0000000400000000", "pair 0 of 4 bytes"},
		{"01010000" + "0000000000000001" + "7fffffff00000000", "pair 0 of 2147483647 bytes, wanted 8 to 8"},
		{"01010000" + "0000000000000001" + "0000001800000000" + "0000000161000000" + "0000006300000001", "values of type 99"},
		{"01010000" + "0000000000000001" + "0000001800000000" + "0000000161000000" + "0000001100ffffff", "16777215 strings in 0 bytes"},
		{"01010000" + "0000000000000001" + "0000001800000000" + "0000000161000000" + "0000001400ffffff", "16777215 lists in 0 bytes"},
		{"01010000" + "0000000000000001" + "0000001c00000000" + "0000000161000000" + "0000001000ffffff" + "00ffffff", "16777215 elements in 0 bytes"},
		{"01010000" + "0000000000000001" + "0000001c00000000" + "0000000161000000" + "0000001000ffffff" + "00000001", "16777215 elements counts 1"},
		{"01010000" + "0000000000000001" + "0000001c00000000" + "0000000161000000" + "0000000100000000" + "00000000", "4 bytes are left"},
		{"00010000" + "0000000001000000" + "08000000", "pair 0 of 8 bytes"},
		{"00010000" + "0000000001000000" + "18000000" + "ff000000" + "0100000008000000" + "6100000000000000", "name of 255 bytes"},
		{"00010000" + "0000000001000000" + "18000000" + "02000000" + "0100000008000000" + "6100000000000000", "1 elements in 0 bytes"},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.hex, err, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := Encode(everyType())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for _, file := range []string{"label-2.1.11.nvl", "config-2.1.11.nvl", "history-2.1.11.nvl"} {
		f.Add(readFile(f, file))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Decode(b)
		if err != nil {
			return
		}
		once, err := Encode(l)
		if err != nil {
			return // names are not always unique
		}
		again, err := Decode(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := Encode(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("encoded anew, the bytes differ: %v", err)
		}
	})
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
