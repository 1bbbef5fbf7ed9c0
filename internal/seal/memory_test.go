package seal

import (
	"errors"
	"io/fs"
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
