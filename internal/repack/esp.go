package repack

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kldload/kldload/internal/boot"
	"github.com/kldload/kldload/internal/fat"
	"github.com/kldload/kldload/internal/volume"
)

// randomSeed is systemd-boot's, of one machine (bootctl(1), random-seed).
const randomSeed = "loader/random-seed"

// writeFAT copies a FAT file system, and of the EFI system partition not what
// boots environments that are left out.
func (j *job) writeFAT(v *volume.Volume) (stats VolumeStats, err error) {
	sector := sectorSize
	if j.disk.Table != nil {
		sector = max(j.disk.Table.SectorSize, sectorSize)
	}
	w, err := fat.NewWriter(j.section(v), fat.Options{
		Size: v.Partition.Size / int64(sector) * int64(sector), Label: v.FAT.Label(), VolumeID: v.FAT.VolumeID(), Epoch: j.epoch,
		Type: v.FAT.Type(), SectorSize: sector, HiddenSectors: uint32(v.Partition.Start / int64(sector)),
	})
	if err != nil {
		return stats, err
	}
	p := &espPlan{}
	if v == j.disk.ESP() {
		if p, err = j.planESP(v.FAT); err != nil {
			return stats, err
		}
	}
	err = fs.WalkDir(v.FAT, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." || p.drop[name] {
			return err
		}
		stats.Files++
		if d.IsDir() {
			return w.Mkdir(name)
		}
		n, err := copyFAT(w, v.FAT, name, p.content[name])
		stats.Bytes += n
		return err
	})
	if err != nil {
		return stats, err
	}
	return stats, w.Close()
}

// copyFAT copies a file, or writes what it shall hold now.
func copyFAT(w *fat.Writer, from *fat.FS, name string, content []byte) (int64, error) {
	f, err := from.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if content != nil {
		return int64(len(content)), w.Create(name, int64(len(content)), bytes.NewReader(content), time.Time{})
	}
	return st.Size(), w.Create(name, st.Size(), f, st.ModTime())
}

// espPlan is what of the EFI system partition stays away or changes, by name.
type espPlan struct {
	drop    map[string]bool
	content map[string][]byte
}

// planESP leaves out the entries of environments that are, and what they alone
// boot.
func (j *job) planESP(esp *fat.FS) (*espPlan, error) {
	p := &espPlan{drop: map[string]bool{}, content: map[string][]byte{}}
	if _, err := esp.Stat(randomSeed); err == nil {
		p.drop[randomSeed] = true
		j.leftOut("ESP %s", randomSeed)
	}
	list, err := esp.ReadDir(boot.EntriesDir)
	if errors.Is(err, fs.ErrNotExist) || j.root.Tree == nil {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	kept, files := map[string]bool{}, map[string]bool{}
	for _, d := range list {
		name := path.Join(boot.EntriesDir, d.Name())
		text, err := esp.ReadFile(name)
		if err != nil {
			return nil, err
		}
		e, err := boot.ParseEntry(d.Name(), text)
		if err != nil {
			kept[strings.ToLower(d.Name())] = true // none that starts Linux
			continue
		}
		used := files
		if !j.boots(e) {
			p.drop[name] = true
			j.leftOut("ESP %s", name)
		} else {
			kept[strings.ToLower(d.Name())] = true
			used = kept
		}
		for _, f := range append(e.Initrd, e.Linux) {
			used[strings.ToLower(path.Clean(strings.ReplaceAll(f, `\`, "/")))] = true
		}
	}
	if err := j.dropFiles(esp, p, kept, files); err != nil {
		return nil, err
	}
	return p, p.fixDefault(esp, kept)
}

// boots tells whether an entry's root is on the new disk.
func (j *job) boots(e boot.Entry) bool {
	for _, option := range strings.Fields(e.Options) {
		dataset, ok := strings.CutPrefix(option, "root=ZFS=")
		if !ok || !strings.HasPrefix(dataset, j.root.Volume.Pool.Name()+"/") {
			continue
		}
		return slices.ContainsFunc(j.trees, func(t *fileTree) bool { return t.name == dataset })
	}
	return true
}

// dropFiles leaves out the files that only dropped entries name, and folders
// that have nothing else.
func (j *job) dropFiles(esp *fat.FS, p *espPlan, kept, dropped map[string]bool) error {
	err := fs.WalkDir(esp, ".", func(name string, d fs.DirEntry, err error) error {
		if lower := strings.ToLower(name); err == nil && dropped[lower] && !kept[lower] {
			p.drop[name] = true
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(p.drop)) {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			list, err := esp.ReadDir(dir)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(list, func(d fs.DirEntry) bool { return !p.drop[path.Join(dir, d.Name())] }) {
				break
			}
			p.drop[dir] = true
		}
	}
	return nil
}

// fixDefault takes the loader's default out where it names no entry that is
// kept; the loader then chooses by version.
func (p *espPlan) fixDefault(esp *fat.FS, kept map[string]bool) error {
	text, err := esp.ReadFile(boot.LoaderConf)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var out []string
	changed := false
	for _, line := range strings.SplitAfter(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) == 2 && f[0] == "default" && !strings.HasPrefix(f[1], "@") && !matches(f[1], kept) && matchesDropped(f[1], p.drop) {
			changed = true
			continue
		}
		out = append(out, line)
	}
	if changed {
		p.content[boot.LoaderConf] = []byte(strings.Join(out, ""))
	}
	return nil
}

// matches tells whether a pattern of loader.conf (glob, with or without .conf)
// names an entry.
func matches(pattern string, names map[string]bool) bool {
	for name := range names {
		for _, n := range []string{name, strings.TrimSuffix(name, ".conf")} {
			if ok, err := path.Match(strings.ToLower(pattern), n); ok && err == nil {
				return true
			}
		}
	}
	return false
}

func matchesDropped(pattern string, drop map[string]bool) bool {
	names := map[string]bool{}
	for name := range drop {
		if dir, base := path.Split(name); dir == boot.EntriesDir+"/" {
			names[strings.ToLower(base)] = true
		}
	}
	return matches(pattern, names)
}

// sortedKeys are a map's keys in order.
func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// byDefault knows values of properties that say nothing.
func byDefault(name, value string) bool {
	return slices.Contains([]string{"casesensitivity=sensitive", "normalization=none", "utf8only=off"}, fmt.Sprintf("%s=%s", name, value))
}
