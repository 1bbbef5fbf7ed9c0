package zfs

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestTree(t *testing.T) {
	o := sampleOptions()
	o.Datasets = append(o.Datasets,
		Dataset{Name: "rpool/srv", Properties: map[string]string{"mountpoint": "/srv/data/x"}},
		Dataset{Name: "rpool/off", Properties: map[string]string{"mountpoint": "/off", "canmount": "off"}},
		Dataset{Name: "rpool/legacy", Properties: map[string]string{"mountpoint": "legacy"}})
	p := writePool(t, o, sampleTree()).open(t)
	for _, root := range []string{"", "rpool/ROOT/default@golden"} {
		f, err := p.Tree(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range sampleTree() {
			if want.link == "" {
				compareFile(t, f, want.h.Path, want)
			}
		}
		if got, err := f.Resolve("etc/link/doc"); got != "home/user/doc" || err != nil {
			t.Errorf("Resolve gives %q, %v", got, err)
		}
		var mounts []string
		for _, m := range f.Mounts() {
			mounts = append(mounts, m.Path+" "+strings.TrimSuffix(m.Dataset, "@golden"))
		}
		want := []string{". rpool/ROOT/default", "home rpool/home", "home/big rpool/home/big", "srv/data/x rpool/srv"}
		if diff := cmp.Diff(want, mounts); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

// Directories that only lead to mountpoints are there, and paths in errors are
// those of the tree.
func TestTreeContract(t *testing.T) {
	o := sampleOptions()
	o.Datasets = append(o.Datasets, Dataset{Name: "rpool/srv", Properties: map[string]string{"mountpoint": "/srv/data/x"}})
	tree := []treeFile{{h: Header{Path: "home", Mode: modeDir | 0o755}}, {h: Header{Path: "home/f", Mode: modeRegular, Size: 2}, body: []byte("ab")}}
	f, err := writePool(t, o, tree).open(t).Tree("")
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(f, "home/f", "home/big", "srv/data/x"); err != nil {
		t.Error(err)
	}
	_, err = f.Lstat("home/big/none")
	var wrong *fs.PathError
	if !errors.As(err, &wrong) || wrong.Path != "home/big/none" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lstat gives %v", err)
	}
}

func TestTreeErrors(t *testing.T) {
	o := sampleOptions()
	o.Properties = nil
	p := writePool(t, o, nil).open(t)
	for _, root := range []string{"", "rpool/none", "rpool/home@none"} {
		if _, err := p.Tree(root); err == nil {
			t.Errorf("Tree(%q) gives no error", root)
		}
	}
}
