package boot

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"
)

// ESP gathers, while a root tree streams by, what the EFI system partition
// needs of it, and writes it.
type ESP struct {
	fs      Creator
	conf    Config
	title   string
	sortKey string
	loader  []byte
	kernels map[string]bool // version → has an initramfs
	linux   map[string]bool
}

// Creator makes files on the partition; parents are made as needed.
type Creator interface {
	Create(name string, size int64, body io.Reader) error
}

// NewESP writes through fs.
func NewESP(fs Creator, conf Config) *ESP {
	return &ESP{fs: fs, conf: conf, kernels: map[string]bool{}, linux: map[string]bool{}}
}

// Wants tells whether the regular file name of the tree concerns the ESP.
func (e *ESP) Wants(name string) bool {
	dir, base := path.Split(name)
	return dir == "boot/" && (strings.HasPrefix(base, "vmlinuz-") || strings.HasPrefix(base, "initrd.img-")) ||
		name == LoaderInTree || name == "usr/lib/os-release"
}

// Take reads a file that Wants named.
func (e *ESP) Take(name string, size int64, body io.Reader) error {
	base := path.Base(name)
	if version, ok := strings.CutPrefix(base, "vmlinuz-"); ok {
		e.linux[version] = true
		return e.fs.Create(EntryDir(version)+"/linux", size, body)
	}
	if version, ok := strings.CutPrefix(base, "initrd.img-"); ok {
		e.kernels[version] = true
		return e.fs.Create(EntryDir(version)+"/"+base, size, body)
	}
	text, err := io.ReadAll(io.LimitReader(body, 4<<20))
	if err != nil {
		return err
	}
	if name == LoaderInTree {
		e.loader = text
		return nil
	}
	e.title, e.sortKey = osRelease(text)
	return nil
}

// EntryDir is where kernel-install puts a version's files.
func EntryDir(version string) string { return Token + "/" + version }

// EntryName is the entry's file.
func EntryName(version string) string { return EntriesDir + "/" + Token + "-" + version + ".conf" }

// Finish writes the loader, its configuration and one entry per kernel.
func (e *ESP) Finish() error {
	versions, err := e.complete()
	if err != nil {
		return err
	}
	files := map[string][]byte{
		RemovableLoader: e.loader, SystemdLoader: e.loader,
		LoaderConf:  []byte(e.conf.loaderConf()),
		EntriesSRel: []byte("type1\n"),
	}
	for _, v := range versions {
		files[EntryName(v)] = []byte(e.entry(v))
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := e.fs.Create(name, int64(len(files[name])), bytes.NewReader(files[name])); err != nil {
			return err
		}
	}
	return nil
}

// loaderConf selects the running environment's entries where there can be
// others; kldload-be rewrites the last line.
func (c Config) loaderConf() string {
	text := "timeout 3\nconsole-mode keep\neditor no\n"
	if c.RootType == ZFS {
		text += "default " + Token + "-*\n"
	}
	return text
}

func (e *ESP) complete() ([]string, error) {
	if len(e.loader) == 0 {
		return nil, fmt.Errorf("filling the EFI system partition: the tree has no %s\nhint: add systemd-boot to the package set", LoaderInTree)
	}
	var versions []string
	for v := range e.linux {
		if !e.kernels[v] {
			return nil, fmt.Errorf("filling the EFI system partition: kernel %s has no boot/initrd.img-%s", v, v)
		}
		versions = append(versions, v)
	}
	if len(versions) == 0 {
		return nil, fmt.Errorf("filling the EFI system partition: the tree has no boot/vmlinuz-*")
	}
	sort.Strings(versions)
	return versions, nil
}

func (e *ESP) entry(version string) string {
	dir := "/" + EntryDir(version)
	return fmt.Sprintf("title      %s\nversion    %s\nsort-key   %s\noptions    %s\nlinux      %s/linux\ninitrd     %s/initrd.img-%s\n",
		e.title, version, e.sortKey, e.conf.Cmdline(), dir, dir, version)
}

// osRelease reads PRETTY_NAME and ID (os-release(5)).
func osRelease(text []byte) (title, id string) {
	title, id = "Linux", "linux"
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "PRETTY_NAME":
			title = value
		case "ID":
			id = value
		}
	}
	return title, id
}

// Entry is a parsed boot entry (BLS 1.0, type 1).
type Entry struct {
	File    string
	Version string
	Linux   string // path on the ESP, no leading slash
	Initrd  []string
	Options string
}

// ParseEntry reads an entry's text.
func ParseEntry(file string, text []byte) (Entry, error) {
	e := Entry{File: file}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		key, value, _ := strings.Cut(strings.TrimSpace(s.Text()), " ")
		value = strings.TrimSpace(value)
		switch key {
		case "version":
			e.Version = value
		case "linux":
			e.Linux = strings.TrimPrefix(value, "/")
		case "initrd":
			e.Initrd = append(e.Initrd, strings.TrimPrefix(value, "/"))
		case "options":
			e.Options = strings.TrimSpace(e.Options + " " + value)
		}
	}
	if e.Linux == "" {
		return e, fmt.Errorf("reading boot entry %s: no linux line", file)
	}
	return e, nil
}
