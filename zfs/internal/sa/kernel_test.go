package sa

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// An object as a kernel wrote it, with the table of its dataset.
type kernelObject struct {
	dataset, name string
	number        uint64
	slots         int
	bonus, spill  []byte
	table         *Table
}

// kernelObjects reads testdata/linux-*.txt: lines of
//
//	dataset NAME
//	layout NUMBER ATTRIBUTE,…
//	object NUMBER NAME SLOTS BONUS SPILLSIZE SPILL
//
// with buffers in hexadecimal, spill blocks without the zeros at their end.
func kernelObjects(t testing.TB, path string) []kernelObject {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var (
		objects []kernelObject
		dataset string
		layouts map[uint16][]uint16
	)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		switch w := strings.Fields(lines.Text()); w[0] {
		case "dataset":
			dataset, layouts = w[1], map[uint16][]uint16{}
		case "layout":
			var l []uint16
			for _, a := range strings.Split(w[2], ",") {
				l = append(l, uint16(number(t, a)))
			}
			layouts[uint16(number(t, w[1]))] = l
		case "object":
			o := kernelObject{dataset: dataset, name: w[2], number: number(t, w[1]), slots: int(number(t, w[3])), bonus: unhex(t, w[4])}
			if size := number(t, w[5]); size > 0 {
				o.spill = unhex(t, w[6])
				o.spill = append(o.spill, make([]byte, int(size)-len(o.spill))...)
			}
			if o.table, err = NewTable(registryMap(), layouts); err != nil {
				t.Fatal(err)
			}
			objects = append(objects, o)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return objects
}

func number(t testing.TB, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func registryMap() map[string]uint64 {
	m := map[string]uint64{}
	for _, r := range Registry() {
		m[r.Name] = r.Value
	}
	return m
}

func ownTable(t testing.TB) *Table {
	t.Helper()
	layouts := map[uint16][]uint16{}
	for _, l := range Layouts() {
		layouts[l.Number] = l.Attrs
	}
	table, err := NewTable(registryMap(), layouts)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// attributes is the layout behind a buffer's header.
func (t *Table) attributes(b []byte) (l []uint16) {
	for _, d := range t.layouts[le.Uint16(b[4:])&maxLayout].attrs {
		l = append(l, d.number)
	}
	return l
}

// sameBuffer compares a buffer with the kernel's: layout, header, length and every
// attribute, hence where each begins. Not compared are the layout's number and the
// bytes between attributes, where kernels leave what was there before.
func sameBuffer(own, kernel *Table, got, want []byte) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d bytes, the kernel wrote %d", len(got), len(want))
	}
	if len(want) == 0 {
		return nil
	}
	if g, w := own.attributes(got), kernel.attributes(want); !slices.Equal(g, w) {
		return fmt.Errorf("attributes %v, the kernel wrote %v", g, w)
	}
	if g, w := got[5]>>2, want[5]>>2; g != w {
		return fmt.Errorf("header of %d words, the kernel wrote %d", g, w)
	}
	var g, w values
	if err := errors.Join(own.read(got, &g), kernel.read(want, &w)); err != nil {
		return err
	}
	for a := range g {
		if !bytes.Equal(g[a], w[a]) {
			return fmt.Errorf("%s is %x, the kernel wrote %x", registrations[a].name, g[a], w[a])
		}
	}
	return nil
}

// Decoding what a kernel wrote and encoding it gives the kernel's buffers. Two
// things cannot be the same: the order of xattrs (the kernel's is that of
// setting), and a dnode of two slots that has a spill block nevertheless (here it
// is one slot).
func TestKernelObjects(t *testing.T) {
	own := ownTable(t)
	for _, version := range []string{"2.1.11", "2.3.2"} {
		for _, o := range kernelObjects(t, "testdata/linux-"+version+".txt") {
			t.Run(version+"/"+o.dataset+"/"+o.name, func(t *testing.T) {
				a, err := o.table.Decode(o.bonus, o.spill)
				if err != nil {
					t.Fatal(err)
				}
				e, err := Encode(a, EncodeOptions{MaxSlots: o.slots, ProjID: true})
				if err != nil {
					t.Fatal(err)
				}
				if o.slots > 1 && o.spill != nil {
					if e.Slots != 1 || e.Spill == nil {
						t.Errorf("%d slots, spill of %d bytes", e.Slots, len(e.Spill))
					}
					return
				}
				if err := sameBuffer(own, o.table, e.Bonus, o.bonus); err != nil {
					t.Error("bonus:", err)
				}
				if err := sameBuffer(own, o.table, e.Spill, o.spill); err != nil && o.name != "acl2" {
					t.Error("spill:", err)
				}
			})
		}
	}
}
