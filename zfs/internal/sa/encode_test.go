package sa

import "testing"

func BenchmarkEncode(b *testing.B) {
	a := Attrs{Mode: 0o100644, Size: 12345, Gen: 4, UID: 1000, GID: 1000, Parent: 34, Links: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Encode(a, EncodeOptions{MaxSlots: 2, ProjID: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// Every way in which attributes part has a layout, and no layout is there twice.
func TestEveryLayoutHasANumber(t *testing.T) {
	seen := map[set]bool{}
	for _, s := range layoutSets {
		if seen[s] {
			t.Errorf("layout %08b is there twice", s)
		}
		seen[s] = true
	}
	for _, mode := range []uint64{0o100644, 0o107007, 0o40755, 0o20600, 0o60707, 0o10644, 0o120777, 0o140000} {
		for _, link := range []int{1, 8, 9, 20, 200, 4095} {
			for _, obj := range []uint64{0, 9} {
				for _, x := range []int{-1, 1, 50, 80, 100, 500, 700, 20000} {
					for aces := range 80 {
						for slots := range 3 {
							a := Attrs{Mode: mode, XattrObj: obj, ACL: make([]ACE, aces)}
							if mode&typeMask == typeSymlink {
								a.Size, a.Symlink = uint64(link), string(make([]byte, link))
							}
							if x >= 0 {
								a.Xattrs = map[string][]byte{"user.x": make([]byte, x)}
							}
							for _, proj := range []bool{false, true} {
								e, err := Encode(a, EncodeOptions{MaxSlots: slots, ProjID: proj})
								if err != nil {
									t.Fatal(err)
								}
								for _, b := range [][]byte{e.Bonus, e.Spill} {
									if b != nil && le.Uint16(b[4:])&(1<<layoutBits-1) < firstLayout {
										t.Fatalf("mode %o link %d aces %d: no layout", mode, link, aces)
									}
								}
							}
						}
					}
				}
			}
		}
	}
}
