package seal

import "testing"

// FuzzEdits: whatever a file holds, an edit done twice is an edit done once,
// and no line grows.
func FuzzEdits(f *testing.F) {
	for _, l := range lines {
		f.Add(l.before)
	}
	f.Add("a:::::::\n\n::\r\n$6$:$6$\n0 0 0\n/swapfile x swap")
	o := opts
	o.Keys = []string{askedKey}
	f.Fuzz(func(t *testing.T, text string) {
		for _, i := range Items(o) {
			for _, e := range i.Edit {
				once := edited(text, e.Line)
				if twice := edited(once, e.Line); twice != once {
					t.Errorf("%s of %s: %q, then %q", i.Name, e.Pattern, once, twice)
				}
			}
		}
	})
}

// FuzzHomes: whatever passwd says, a plan can be made.
func FuzzHomes(f *testing.F) {
	f.Add("root:x:0:0::/root:/bin/sh\n")
	f.Add("a:x:1:1::/../[h*\\:/bin/sh\nb:::::\x00/:\n:::::/home/../etc/passwd/x:\n")
	f.Fuzz(func(t *testing.T, text string) {
		p := &planner{view: view{dirOf{"etc": nil, "etc/passwd": []byte(text), "root": nil, "root/.bash_history": {}}}}
		homes, err := p.findHomes()
		if err != nil {
			t.Fatal(err)
		}
		p.homes = homes
		changes, err := p.plan(Item{Name: "x", Remove: []string{"~/.bash_history"}})
		if err != nil || len(changes) != 1 || changes[0].path != "root/.bash_history" {
			t.Fatalf("homes %q: got %v, %v", homes, changes, err)
		}
	})
}
