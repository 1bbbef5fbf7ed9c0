package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/internal/ui"
	"github.com/kldload/kldload/internal/zpool"
	"github.com/kldload/kldload/zfs"
)

const targetHelp = `IMAGE is a pool in a file, or a disk with one in a partition, in any format that
kexport reads. DATASET is named as zfs list does; IMAGE:/PATH is the path in the
system that the pool boots, with its datasets where they are mounted.`

func newZFSLsCommand(a *app) *cobra.Command {
	var long, recursive bool
	c := &cobra.Command{
		Use:   "ls IMAGE[:DATASET[@SNAPSHOT][/PATH]]",
		Short: "List datasets and snapshots, or the files in them",
		Long: `List the datasets and snapshots of a pool, or the files of a folder in one.

` + targetHelp,
		Example: `  kldload zfs ls kldload-server.qcow2
  kldload zfs ls -l kldload-server.qcow2:rpool/ROOT/default@golden/etc`,
		Args: exactArgs("IMAGE[:DATASET[@SNAPSHOT][/PATH]]"),
		RunE: func(c *cobra.Command, args []string) error {
			image, where := zpool.Target(args[0])
			img, err := zpool.Open(image)
			if err != nil {
				return err
			}
			defer img.Close()
			if where == "" {
				return listDatasets(a, img)
			}
			return listFiles(c.Context(), a, img, where, long, recursive)
		},
	}
	c.Flags().BoolVarP(&long, "long", "l", false, "show mode, links, owner, size and time")
	c.Flags().BoolVarP(&recursive, "recursive", "R", false, "list the folders below, too")
	return c
}

// datasetLine is a dataset or snapshot in the output of ls.
type datasetLine struct {
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Used       uint64            `json:"used"`
	Referenced uint64            `json:"referenced"`
	Mountpoint string            `json:"mountpoint,omitempty"`
	CanMount   string            `json:"canmount,omitempty"`
	Created    time.Time         `json:"creation"`
	Properties map[string]string `json:"properties,omitempty"`
}

func listDatasets(a *app, img *zpool.Image) error {
	list, err := img.Datasets()
	if err != nil && len(list) == 0 {
		return err
	}
	var lines []datasetLine
	width := len("NAME")
	for _, d := range list {
		lines = append(lines, datasetLine{d.Name, string(d.Type), d.Used, d.Referenced, d.Mountpoint, d.CanMount, d.Created, d.Properties})
		for _, s := range d.Snapshots {
			lines = append(lines, datasetLine{Name: s.Name, Type: "snapshot", Used: s.Unique, Referenced: s.Referenced, Created: s.Created})
		}
	}
	for _, l := range lines {
		width = max(width, len(l.Name))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s  %9s  %9s  %s", width, "NAME", "USED", "REFER", "MOUNTPOINT")
	for _, l := range lines {
		at := l.Mountpoint
		if l.Type == "snapshot" {
			at = "-"
		}
		fmt.Fprintf(&b, "\n%-*s  %9s  %9s  %s", width, l.Name, ui.Bytes(int64(l.Used)), ui.Bytes(int64(l.Referenced)), at)
	}
	a.ui.Result(b.String(), b.String(), map[string]any{"pool": img.Name(), "guid": img.GUID(), "datasets": lines})
	return err
}

// fileLine is a file in the output of ls.
type fileLine struct {
	Path   string    `json:"path"`
	Mode   uint32    `json:"mode"` // st_mode
	Links  uint64    `json:"links"`
	UID    uint32    `json:"uid"`
	GID    uint32    `json:"gid"`
	Size   int64     `json:"size"`
	Time   time.Time `json:"mtime"`
	Target string    `json:"target,omitempty"`
	Device string    `json:"device,omitempty"` // major:minor
}

func listFiles(ctx context.Context, a *app, img *zpool.Image, where string, long, recursive bool) error {
	files, name, err := img.Files(where)
	if err != nil {
		return err
	}
	if name, err = files.Resolve(name); err != nil {
		return fmt.Errorf("listing %q: %w", where, err)
	}
	l := lister{ctx: ctx, files: files, recursive: recursive}
	st, err := files.Lstat(name)
	if err != nil {
		return fmt.Errorf("listing %q: %w", where, err)
	}
	if st.IsDir() {
		err = l.dir(name, "")
	} else {
		err = l.add(name, path.Base(name), st)
	}
	if err != nil {
		return err
	}
	text := l.names()
	if long {
		text = l.table()
	}
	a.ui.Result(text, text, l.lines)
	return nil
}

// lister collects the files of a folder.
type lister struct {
	ctx       context.Context
	files     zpool.Files
	recursive bool
	lines     []fileLine
}

// dir lists the folder name; shown is what its files are called by.
func (l *lister) dir(name, shown string) error {
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	entries, err := l.files.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		child := path.Join(name, e.Name())
		st, err := l.files.Lstat(child)
		if err != nil {
			return err
		}
		if err := l.add(child, path.Join(shown, e.Name()), st); err != nil {
			return err
		}
		if l.recursive && st.IsDir() {
			if err := l.dir(child, path.Join(shown, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lister) add(name, shown string, st fs.FileInfo) error {
	line := fileLine{Path: shown, Size: st.Size(), Time: st.ModTime()}
	if n, ok := st.Sys().(*zfs.Node); ok {
		line.Mode, line.Links, line.UID, line.GID = n.Mode, n.Links, n.UID, n.GID
		if st.Mode()&fs.ModeDevice != 0 {
			line.Device = fmt.Sprintf("%d:%d", n.Major, n.Minor)
		}
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		var err error
		if line.Target, err = l.files.ReadLink(name); err != nil {
			return err
		}
	}
	l.lines = append(l.lines, line)
	return nil
}

func (l *lister) names() string {
	names := make([]string, len(l.lines))
	for i, f := range l.lines {
		names[i] = shownName(f.Path)
	}
	return strings.Join(names, "\n")
}

func (l *lister) table() string {
	lines := make([]string, len(l.lines))
	for i, f := range l.lines {
		size := fmt.Sprint(f.Size)
		if f.Device != "" {
			size = f.Device
		}
		lines[i] = fmt.Sprintf("%s %3d %5d %5d %10s %s  %s", modeText(f.Mode), f.Links, f.UID, f.GID, size,
			f.Time.UTC().Format("2006-01-02 15:04:05"), shownName(f.Path))
		if f.Target != "" {
			lines[i] += " -> " + shownName(f.Target)
		}
	}
	return strings.Join(lines, "\n")
}

// shownName quotes a name that a terminal would not show as it is.
func shownName(s string) string {
	quoted := fmt.Sprintf("%q", s)
	if quoted[1:len(quoted)-1] == s {
		return s
	}
	return quoted
}

// modeText is st_mode as ls shows it.
func modeText(mode uint32) string {
	text := []byte("?rwxrwxrwx")
	if kind := strings.IndexByte("\x01\x02\x04\x06\x08\x0a\x0c", byte(mode>>12)); kind >= 0 {
		text[0] = "pcdb-ls"[kind]
	}
	for i := range 9 {
		if mode>>(8-i)&1 == 0 {
			text[i+1] = '-'
		}
	}
	for i, special := range []struct {
		bit  uint32
		with string // in the place of - and x
	}{{0o4000, "Ss"}, {0o2000, "Ss"}, {0o1000, "Tt"}} {
		if mode&special.bit != 0 {
			at := 3 * (i + 1)
			text[at] = special.with[min(1, strings.IndexByte("-x", text[at]))]
		}
	}
	return string(text)
}

func newZFSCatCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "cat IMAGE:DATASET[@SNAPSHOT]/PATH",
		Short: "Write a file in a pool to standard output",
		Long: `Write a file in a pool to standard output. Symbolic links are followed, inside of
what is named.

` + targetHelp,
		Example: `  kldload zfs cat kldload-server.qcow2:/etc/os-release
  kldload zfs cat rpool.img:rpool/ROOT/default@golden/etc/fstab`,
		Args: exactArgs("IMAGE:DATASET[@SNAPSHOT]/PATH"),
		RunE: func(c *cobra.Command, args []string) error { return runZFSCat(c.Context(), a, args[0]) },
	}
}

func runZFSCat(ctx context.Context, a *app, target string) (err error) {
	image, where := zpool.Target(target)
	if where == "" {
		return usagef("%q names no file\nhint: kldload zfs cat IMAGE:DATASET/PATH", target)
	}
	img, err := zpool.Open(image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	files, name, err := img.Files(where)
	if err != nil {
		return err
	}
	if name, err = files.Resolve(name); err != nil {
		return fmt.Errorf("reading %q: %w", where, err)
	}
	f, err := files.Open(name)
	if err != nil {
		return fmt.Errorf("reading %q: %w", where, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%q is no regular file", where))
	}
	_, err = io.Copy(a.stdout, stopped{ctx, f})
	return err
}

// stopped is a reader that ends with ctx.
type stopped struct {
	ctx context.Context
	r   io.Reader
}

func (s stopped) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.r.Read(p)
}
