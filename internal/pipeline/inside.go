package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kldload/kldload/internal/boot"
	"github.com/kldload/kldload/internal/sandbox"
	"github.com/kldload/kldload/internal/seal"
	"github.com/kldload/kldload/internal/tree"
)

// Names of the functions that run inside the sandbox.
const (
	fnRemove    = "remove"
	fnUnpack    = "unpack"
	fnPack      = "pack"
	fnHash      = "hash"
	fnConfigure = "configure"
	fnAccounts  = "accounts"
	fnSeal      = "seal"
	fnUpload    = "upload"
	fnDownload  = "download"
)

// SandboxFuncs is the work that needs to be root of the tree's ids; main hands
// it to sandbox.Main.
func SandboxFuncs() map[string]sandbox.Func {
	return map[string]sandbox.Func{
		fnRemove: typed(func(dir string) (any, error) { return nil, os.RemoveAll(dir) }),
		fnUnpack: typed(func(dir string) (any, error) { return tree.Unpack(os.Stdin, dir) }),
		fnPack: typed(func(a packArg) (any, error) {
			return tree.Pack(a.Root, os.Stdout, tree.PackOptions{Epoch: time.Unix(a.Epoch, 0), EmptyDirs: notPacked})
		}),
		fnHash:      typed(hashPacked),
		fnConfigure: typed(configureTree),
		fnSeal: typed(func(a sealArg) (any, error) {
			return seal.Apply(a.Root, a.options())
		}),
		fnAccounts: typed(accounts),
		fnUpload:   typed(upload),
		fnDownload: typed(download),
	}
}

// typed decodes the argument.
func typed[T any](f func(T) (any, error)) sandbox.Func {
	return func(_ context.Context, raw json.RawMessage) (any, error) {
		var arg T
		if err := json.Unmarshal(raw, &arg); err != nil {
			return nil, fmt.Errorf("decoding the argument: %w", err)
		}
		return f(arg)
	}
}

// treeSum is what identifies a tree's content: the digest of its stream.
type treeSum struct {
	SHA256 string
	Size   int64
	Stats  tree.Stats
}

// hashPacked packs a tree and keeps the digest alone. It hashes while it packs.
func hashPacked(a packArg) (any, error) {
	h := sha256.New()
	pr, pw := io.Pipe()
	var sum treeSum
	hashed := make(chan error, 1)
	go func() {
		var err error
		sum.Size, err = io.CopyBuffer(h, pr, make([]byte, 256<<10))
		hashed <- err
	}()
	stats, err := tree.Pack(a.Root, pw, tree.PackOptions{Epoch: time.Unix(a.Epoch, 0), EmptyDirs: notPacked})
	_ = pw.CloseWithError(err)
	if other := <-hashed; err == nil {
		err = other
	}
	sum.Stats, sum.SHA256 = stats, hex.EncodeToString(h.Sum(nil))
	return sum, err
}

// notPacked are directories that a running system fills.
var notPacked = []string{"dev", "proc", "sys", "run", "tmp"}

type packArg struct {
	Root  string
	Epoch int64
}

type sealArg struct {
	Root, Hostname string
	Epoch          int64
	Keys           []string
}

func (a sealArg) options() seal.Options {
	return seal.Options{Hostname: a.Hostname, Epoch: time.Unix(a.Epoch, 0), Keys: a.Keys}
}

type configureArg struct {
	Root     string
	Files    map[string]string
	Boot     []boot.File
	Timezone string
}

// configureTree writes the tree's settings.
func configureTree(a configureArg) (any, error) {
	root, err := os.OpenRoot(a.Root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if _, err := root.Stat("usr/share/zoneinfo/" + a.Timezone); err != nil {
		return nil, fmt.Errorf("timezone %q: the tree has no such zone: %w\nhint: names are as in /usr/share/zoneinfo; tzdata must be installed", a.Timezone, err)
	}
	files := append([]boot.File(nil), a.Boot...)
	for name, content := range a.Files {
		files = append(files, boot.File{Path: name, Content: content})
	}
	files = append(files, boot.File{Path: "etc/localtime", Link: "/usr/share/zoneinfo/" + a.Timezone})
	for _, f := range files {
		if err := put(root, f); err != nil {
			return nil, fmt.Errorf("writing %s: %w", f.Path, err)
		}
	}
	return nil, root.MkdirAll("boot/efi", 0o755)
}

type accountsArg struct {
	Root  string
	Users []account
}

// account is what of a user useradd does not write.
type account struct {
	Name, Sudo string
	Keys       []string
}

// accounts writes sudo rules and authorized keys of users that exist.
func accounts(a accountsArg) (any, error) {
	root, err := os.OpenRoot(a.Root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, u := range a.Users {
		if u.Sudo != "" {
			rule := boot.File{Path: "etc/sudoers.d/50-" + u.Name, Mode: 0o440, Content: u.Name + " " + u.Sudo + "\n"}
			if err := put(root, rule); err != nil {
				return nil, err
			}
		}
		if len(u.Keys) == 0 {
			continue
		}
		home, err := root.Stat("home/" + u.Name)
		if err != nil {
			return nil, err
		}
		ids := home.Sys().(*syscall.Stat_t)
		ssh := "home/" + u.Name + "/.ssh"
		keys := boot.File{Path: ssh + "/authorized_keys", Mode: 0o600, Content: strings.Join(u.Keys, "\n") + "\n"}
		err = errors.Join(put(root, keys), root.Chmod(ssh, 0o700),
			root.Lchown(ssh, int(ids.Uid), int(ids.Gid)), root.Lchown(keys.Path, int(ids.Uid), int(ids.Gid)))
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func put(root *os.Root, f boot.File) error {
	if err := root.MkdirAll(path.Dir(f.Path), 0o755); err != nil {
		return err
	}
	if err := root.RemoveAll(f.Path); err != nil {
		return err
	}
	if f.Link != "" {
		return root.Symlink(f.Link, f.Path)
	}
	mode := os.FileMode(f.Mode)
	if mode == 0 {
		mode = 0o644
	}
	return errors.Join(root.WriteFile(f.Path, []byte(f.Content), mode), root.Chmod(f.Path, mode))
}

type transferArg struct {
	Root, Tmp string
	Sources   []string
	Content   *string
	Dest      string
}

// where splits a path of the tree into the root that holds it and the rest;
// /tmp is the provisioners' own.
func (a transferArg) where(name string) (dir, rest string) {
	clean := path.Clean("/" + name)
	if clean == "/tmp" || strings.HasPrefix(clean, "/tmp/") {
		return a.Tmp, strings.TrimPrefix(strings.TrimPrefix(clean, "/tmp"), "/")
	}
	return a.Root, strings.TrimPrefix(clean, "/")
}

// upload copies host files or a text into the tree with Packer's rules: a
// folder named with a final slash gives its content, one without gives itself.
func upload(a transferArg) (any, error) {
	dir, rest := a.where(a.Dest)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if a.Content != nil {
		return nil, putFile(root, target(root, rest, a.Dest, "content"), strings.NewReader(*a.Content), 0o644)
	}
	for _, src := range a.Sources {
		st, err := os.Stat(src)
		if err != nil {
			return nil, err
		}
		switch {
		case st.IsDir():
			to := rest
			if !strings.HasSuffix(src, "/") {
				to = path.Join(rest, filepath.Base(src))
			}
			err = putFolder(root, to, src+"/") // what a link leads to, not the link
		case st.Mode().IsRegular():
			err = putHostFile(root, target(root, rest, a.Dest, filepath.Base(src)), src, st.Mode())
		default:
			err = fmt.Errorf("uploading %s: it is neither file nor folder", src)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// target is where a single file goes: into a directory that exists or is
// named with a final slash, else to the name itself.
func target(root *os.Root, rest, dest, base string) string {
	if strings.HasSuffix(dest, "/") {
		return path.Join(rest, base)
	}
	if st, err := root.Stat(orDot(rest)); err == nil && st.IsDir() {
		return path.Join(rest, base)
	}
	return rest
}

func orDot(name string) string {
	if name == "" {
		return "."
	}
	return name
}

func putHostFile(root *os.Root, to, src string, mode os.FileMode) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	return errors.Join(putFile(root, to, f, mode.Perm()), f.Close())
}

func putFile(root *os.Root, to string, body io.Reader, mode os.FileMode) error {
	f, err := root.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("%w\nhint: the destination's folder must exist; make it in a shell provisioner first", err)
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close(), root.Chmod(to, mode))
}

func putFolder(root *os.Root, to, src string) error {
	return filepath.WalkDir(src, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, name)
		if err != nil {
			return err
		}
		dest := path.Join(to, filepath.ToSlash(rel))
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return root.MkdirAll(orDot(dest), info.Mode().Perm()|0o700)
		case info.Mode()&os.ModeSymlink != 0:
			return putLink(root, dest, name)
		case !info.Mode().IsRegular():
			return fmt.Errorf("uploading %s: it is neither file, folder nor symbolic link", name)
		}
		return putHostFile(root, dest, name, info.Mode())
	})
}

// putLink copies a symbolic link over whatever file was there.
func putLink(root *os.Root, to, src string) error {
	link, err := os.Readlink(src)
	if err != nil {
		return err
	}
	if err := root.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return root.Symlink(link, to)
}

// download copies files of the tree to the host.
func download(a transferArg) (any, error) {
	for _, src := range a.Sources {
		dir, rest := a.where(src)
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, err
		}
		err = fetch(root, rest, a.Dest)
		if err = errors.Join(err, root.Close()); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func fetch(root *os.Root, name, dest string) error {
	if strings.HasSuffix(dest, "/") {
		if err := os.MkdirAll(dest, 0o755); err != nil {
			return err
		}
	}
	if st, err := os.Stat(dest); err == nil && st.IsDir() {
		dest = filepath.Join(dest, path.Base(name))
	}
	in, err := root.Open(orDot(name))
	if err != nil {
		return err
	}
	defer in.Close()
	if st, err := in.Stat(); err != nil || !st.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("/%s is no regular file", name))
	}
	out, err := os.Create(dest)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
