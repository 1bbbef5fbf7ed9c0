package zfs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/kldload/kldload/zfs/internal/block"
	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// fileCheck holds the files of a file system against the names they have, and
// the space they take against the accounts of users, groups and projects.
type fileCheck struct {
	k     *walk
	fs    *FS // nil when the master node is unreadable
	share uint64

	mu    sync.Mutex
	pages map[uint64]*filePage
	used  [3]map[uint64]account // by user, group and project
}

// filePage is a run of objects' states.
type filePage [1024]fileState

type fileState struct {
	links  uint32 // as the file says
	names  uint32 // as directories have them
	parent uint64 // the file's, less the directory it is found in: 0 for a directory
	kind   uint8  // of st_mode
	said   uint8  // by the directory
	isFile bool
}

type account struct{ bytes, objects uint64 }

func newFileCheck(k *walk) *fileCheck {
	f := &fileCheck{k: k, pages: map[uint64]*filePage{}}
	for i := range f.used {
		f.used[i] = map[uint64]account{}
	}
	fsys := &FS{set: k.set}
	if err := fsys.readMaster(); err != nil {
		if unknown := (*block.UnsupportedSumError)(nil); errors.As(err, &unknown) {
			k.c.note(fmt.Sprintf("files of %q: %v", k.set.name, unknown))
			return f
		}
		k.c.wrong(k.set.name, masterObject, "bad master node", err)
		return f
	}
	f.fs = fsys
	f.share, _, _ = k.set.lookup(masterObject, "SHARES")
	return f
}

// state changes the state of an object under the lock.
func (f *fileCheck) state(id uint64, change func(*fileState)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	page := f.pages[id/1024]
	if page == nil {
		page = new(filePage)
		f.pages[id/1024] = page
	}
	change(&page[id%1024])
}

// accountedBytes is what each file counts for besides its blocks
// (DNODE_MIN_SIZE, do_userquota_update of dmu_objset.c).
const accountedBytes = 512

// object looks at an object, which may be no file.
func (f *fileCheck) object(ob *readObject) {
	if f.fs == nil || ob.dn.BonusType != ondisk.TypeSA || len(ob.dn.Bonus) == 0 {
		return
	}
	in, err := parseNode(ob, f.fs.attrs)
	if err != nil {
		f.k.c.wrong(f.k.set.name, ob.id, "bad attributes", err)
		return
	}
	f.account(in)
	f.state(ob.id, func(s *fileState) {
		s.isFile, s.kind, s.links = true, uint8(in.Mode>>12), uint32(in.Links)
		s.parent += in.attrs.Parent
	})
	if in.attrs.XattrObj != 0 {
		f.state(in.attrs.XattrObj, func(s *fileState) {
			s.names, s.said = s.names+1, modeDir>>12
			s.parent -= ob.id
		})
	}
	if in.Mode&modeType == modeDir {
		f.k.c.dirs.Add(1)
		f.directory(in)
	} else {
		f.k.c.files.Add(1)
	}
}

func (f *fileCheck) account(in *fileNode) {
	flags := in.ob.dn.Flags
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, id := range []uint64{in.attrs.UID, in.attrs.GID, in.attrs.ProjID} {
		a := f.used[i][id]
		if flags&ondisk.DnodeUserUsedAccounted != 0 {
			a.bytes += accountedBytes + in.Used
		}
		if flags&ondisk.DnodeUserObjUsedAccounted != 0 {
			a.objects++
		}
		f.used[i][id] = a
	}
}

// directory counts the names in a directory.
func (f *fileCheck) directory(in *fileNode) {
	wrong := func(err error) { f.k.c.wrong(f.k.set.name, in.Ino, "bad directory", err) }
	l, err := readListing(in.ob)
	if err != nil {
		wrong(err)
		return
	}
	subdirs := uint64(0)
	for _, e := range l.entries {
		if e.kind == modeDir>>12 {
			subdirs++
		}
		f.state(e.object, func(s *fileState) {
			s.names, s.said = s.names+1, e.kind
			s.parent -= in.Ino
		})
	}
	if n := int64(len(l.entries)) + 2; in.Size != n {
		wrong(fmt.Errorf("its size is %d, its entries and two are %d", in.Size, n))
	}
	if in.Links != subdirs+2 {
		wrong(fmt.Errorf("it has %d links, its directories and two are %d", in.Links, subdirs+2))
	}
}

// finish compares, when all objects were seen.
func (f *fileCheck) finish() {
	if f.fs == nil {
		return
	}
	unlinked := map[uint64]bool{}
	err := f.k.set.walkZAP(f.fs.unlinked, func(e zap.Entry) error {
		id, _ := e.Uint64()
		unlinked[id] = true
		return nil
	})
	if err != nil {
		f.k.c.wrong(f.k.set.name, f.fs.unlinked, "queue of unlinked files", err)
	}
	for _, n := range slices.Sorted(maps.Keys(f.pages)) {
		for i := range f.pages[n] {
			if s := &f.pages[n][i]; s.isFile || s.names > 0 {
				f.compare(n*1024+uint64(i), s, unlinked)
			}
		}
	}
	f.compareAccounts()
}

func (f *fileCheck) compare(id uint64, s *fileState, unlinked map[uint64]bool) {
	wrong := func(what string, format string, args ...any) {
		f.k.c.wrong(f.k.set.name, id, what, fmt.Errorf(format, args...))
	}
	switch {
	case !s.isFile:
		wrong("name of no file", "%d directory entries lead to it", s.names)
	case id == f.fs.root || id == f.share && id != 0:
		if s.names != 0 {
			wrong("link count", "%d directory entries lead to the root", s.names)
		}
	case s.names == 0 && !unlinked[id]:
		wrong("file without a name", "no directory entry leads to it, and it is in no queue")
	case s.names == 0:
	case s.said != 0 && s.said != s.kind:
		wrong("type of file", "%d by its directory, %d by itself", s.said, s.kind)
	case s.kind == modeDir>>12 && s.names != 1:
		wrong("link count", "%d directory entries lead to a directory", s.names)
	case s.kind == modeDir>>12 && s.parent != 0:
		wrong("parent", "the directory is in another one than it says")
	case s.kind != modeDir>>12 && s.links != s.names:
		wrong("link count", "%d, and %d directory entries lead to it", s.links, s.names)
	}
}

// compareAccounts holds the accounts of users, groups and projects against the
// files.
func (f *fileCheck) compareAccounts() {
	phys := f.k.set.phys
	if phys.Flags&ondisk.ObjsetUserAccounting == 0 {
		f.k.c.note(fmt.Sprintf("accounts of users in %q: not complete, a kernel makes them", f.k.set.name))
		return
	}
	objects := phys.Flags&ondisk.ObjsetUserObjAccounting != 0
	f.compareAccount("user", userUsedObject, phys.UserUsed, f.used[0], objects)
	f.compareAccount("group", groupUsedObject, phys.GroupUsed, f.used[1], objects)
	if phys.Flags&ondisk.ObjsetProjectQuota != 0 {
		f.compareAccount("project", projectUsedObject, phys.ProjectUsed, f.used[2], objects)
	}
}

func (f *fileCheck) compareAccount(whose string, id uint64, dn *ondisk.Dnode, used map[uint64]account, objects bool) {
	want := map[string]uint64{}
	for owner, a := range used {
		want[fmt.Sprintf("%x", owner)] = a.bytes
		if objects {
			want[fmt.Sprintf("obj-%x", owner)] = a.objects
		}
	}
	wrong := func(err error) { f.k.c.wrong(f.k.set.name, id, "account of a "+whose, err) }
	if dn != nil {
		z, err := (&readObject{f.k.set, id, dn}).zap()
		if err == nil {
			err = z.Walk(func(e zap.Entry) error {
				if n, _ := e.Uint64(); want[e.Name] != n && (objects || !strings.HasPrefix(e.Name, "obj-")) {
					wrong(fmt.Errorf("%q has %d, the files %d", e.Name, n, want[e.Name]))
				}
				delete(want, e.Name)
				return nil
			})
		}
		if err != nil {
			wrong(err)
			return
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if want[name] != 0 {
			wrong(fmt.Errorf("%q has no entry, the files %d", name, want[name]))
		}
	}
}
