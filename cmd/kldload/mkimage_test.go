package main

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kldload/kldload/internal/boot"
	"github.com/kldload/kldload/internal/disk"
	"github.com/kldload/kldload/internal/seal"
	"github.com/kldload/kldload/internal/tree"
	"github.com/kldload/kldload/internal/zpool"
)

// mkimage TREE OUT ext4|zfs, in a script, seals a tree (! mkimage leaves it as
// it is) and makes a raw disk of it, with the boot's files and a kernel that
// boots nothing.
func mkimage(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: mkimage TREE OUT ext4|zfs")
	}
	dir, out := ts.MkAbs(args[0]), ts.MkAbs(args[1])
	id := disk.NewIdentity("seed")
	opts := disk.Options{Size: disk.MinSize, Identity: id, Epoch: time.Unix(1700000000, 0), Label: "root",
		Boot: boot.Config{RootType: args[2], RootUUID: id.RootUUID(), ESPUUID: id.ESPUUID(), Parameters: boot.DefaultParameters}}
	if args[2] == boot.ZFS {
		opts.Pool, opts.Boot.RootDataset = zpool.NewRootLayout("rpool"), "rpool/"+zpool.Root
	}
	if !neg {
		for _, f := range opts.Boot.Files() {
			if f.Link == "" {
				name := filepath.Join(dir, f.Path)
				ts.Check(os.MkdirAll(filepath.Dir(name), 0o755))
				ts.Check(os.WriteFile(name, []byte(f.Content), 0o644))
			}
		}
		_, err := seal.Apply(dir, seal.Options{})
		ts.Check(err)
	}
	var tar bytes.Buffer
	_, err := tree.Pack(dir, &tar, tree.PackOptions{Epoch: opts.Epoch})
	ts.Check(err)
	f, err := os.Create(out)
	ts.Check(err)
	ts.Check(f.Truncate(opts.Size))
	_, err = disk.Build(f, &tar, opts)
	ts.Check(err)
	ts.Check(f.Close())
}
