package seal

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// dirOf is a tree in memory: nil is a folder.
type dirOf map[string][]byte

func (d dirOf) fs() fstest.MapFS {
	m := fstest.MapFS{}
	for name, data := range d {
		m[name] = &fstest.MapFile{Data: data, Mode: 0o644}
		if data == nil {
			m[name].Mode = fs.ModeDir | 0o755
		}
	}
	return m
}

func (d dirOf) Open(name string) (fs.File, error)          { return d.fs().Open(name) }
func (d dirOf) Lstat(name string) (fs.FileInfo, error)     { return d.fs().Stat(name) }
func (d dirOf) ReadDir(name string) ([]fs.DirEntry, error) { return d.fs().ReadDir(name) }
func (d dirOf) ReadLink(string) (string, error)            { return "", errors.New("no links here") }

// circles is a damaged tree: every folder holds itself, twice.
type circles struct{ fstest.MapFS }

func (c circles) Open(string) (fs.File, error)      { return c.MapFS.Open("a") }
func (c circles) Lstat(string) (fs.FileInfo, error) { return c.MapFS.Stat("a") }
func (c circles) ReadLink(string) (string, error)   { return "", errors.New("no links here") }
func (c circles) ReadDir(string) (all []fs.DirEntry, err error) {
	st, err := c.MapFS.Stat("a")
	return []fs.DirEntry{fs.FileInfoToDirEntry(st), fs.FileInfoToDirEntry(st)}, err
}

func TestFoldersInCircles(t *testing.T) {
	c := circles{fstest.MapFS{"a": {Mode: fs.ModeDir | 0o755}}}
	if _, err := (view{c}).filesBelow("a"); err == nil || !strings.Contains(err.Error(), `"a" holds more than`) {
		t.Errorf("got %v", err)
	}
}
