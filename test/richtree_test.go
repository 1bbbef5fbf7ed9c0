//go:build integration

package test

import (
	"bytes"
	encoding "encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// makeRichTree fills a new folder with every kind of file and of metadata that
// a tree can have. Its file system must have extended attributes and ACLs. Where
// datasets are mounted, there are folders; data and home have something in them.
func makeRichTree(t *testing.T, dir string) {
	t.Helper()
	b := treeMaker{t: t, dir: dir, rand: rand.NewChaCha8([32]byte{4})}
	b.mkdir("", 0o755)
	b.sizes()
	b.holes()
	b.names()
	b.special()
	b.attributes()
	b.datasets()
	b.owned("times/old", "x", 0, 0, 0o644)
	b.times("times/old", time.Unix(31536000, 999_999_999))
	b.times("times", time.Unix(2208988800, 1)) // 2040
}

type treeMaker struct {
	t    *testing.T
	dir  string
	rand *rand.ChaCha8
}

func (b treeMaker) path(name string) string { return filepath.Join(b.dir, name) }

// must ends the test on an error that no test is about.
func (b treeMaker) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b treeMaker) mkdir(name string, mode os.FileMode) {
	b.t.Helper()
	b.must(os.MkdirAll(b.path(name), 0o755))
	b.must(os.Chmod(b.path(name), mode))
}

// owned makes a file and the folders it is in.
func (b treeMaker) owned(name, content string, uid, gid int, mode uint32) {
	b.t.Helper()
	b.must(os.MkdirAll(filepath.Dir(b.path(name)), 0o755))
	b.must(os.WriteFile(b.path(name), []byte(content), 0o600))
	b.must(os.Lchown(b.path(name), uid, gid))
	b.must(unix.Chmod(b.path(name), mode))
}

func (b treeMaker) file(name, content string) { b.t.Helper(); b.owned(name, content, 0, 0, 0o644) }

func (b treeMaker) times(name string, at time.Time) {
	b.t.Helper()
	b.must(os.Chtimes(b.path(name), at, at))
}

// noise is content that does not compress.
func (b treeMaker) noise(n int) string {
	buf := make([]byte, n)
	b.rand.Read(buf)
	return string(buf)
}

// sizes has contents around the limits of sectors, blocks, embedded blocks and
// levels of the block tree.
func (b treeMaker) sizes() {
	for _, n := range []int{0, 1, 100, 112, 113, 511, 512, 513, 4095, 4096, 4097, 130 << 10, 128<<10 - 1, 128 << 10, 128<<10 + 1, 3 << 20} {
		b.file(fmt.Sprintf("sizes/text-%d", n), strings.Repeat("some text, ", n/11+1)[:n])
		b.file(fmt.Sprintf("sizes/noise-%d", n), b.noise(n))
	}
	var big bytes.Buffer
	for big.Len() < 100<<20 { // one third does not compress
		big.WriteString(b.noise(1 << 20))
		big.WriteString(strings.Repeat("0123456789abcdef", 2<<20/16))
	}
	b.file("sizes/big", big.String()[:100<<20])
}

func (b treeMaker) holes() {
	b.file("holes/zeros", strings.Repeat("\x00", 1<<20))
	for name, at := range map[string]int64{"one-block": 8 << 20, "odd": 10_000_001, "far": 5 << 30} {
		b.file("holes/"+name, "begin")
		f, err := os.OpenFile(b.path("holes/"+name), os.O_WRONLY, 0)
		b.must(err)
		_, err = f.WriteAt([]byte("end"), at)
		b.must(err)
		b.must(f.Close())
	}
	b.file("holes/trailing", "begin")
	b.must(os.Truncate(b.path("holes/trailing"), 3<<20))
	b.file("holes/all", "")
	b.must(os.Truncate(b.path("holes/all"), 1<<20))
}

func (b treeMaker) names() {
	for _, name := range []string{strings.Repeat("x", 255), strings.Repeat("ü", 127), "ünïcode", "日本語", "two\nlines",
		"back\\slash", " blank ", "-dash", "#hash", "~", "\x01\x7f"} {
		b.file("names/"+name, name)
	}
	for i := range 20_000 {
		b.file(fmt.Sprintf("many/%d-of-the-files-in-a-large-folder", i), "")
	}
	for i := range 40 {
		b.mkdir(fmt.Sprintf("folders/%d", i), 0o755)
	}
	b.mkdir("empty", 0o711)
	b.file(strings.Repeat("deep/", 60)+"file", "deep")
	b.file("links/a", "three names")
	b.must(os.Link(b.path("links/a"), b.path("links/b")))
	b.must(os.Link(b.path("links/a"), b.path("folders/c")))
	for name, target := range map[string]string{"short": "a", "dangling": "/no/where", "long": strings.Repeat("long/", 60),
		"longest": strings.Repeat("l", 4095)} {
		b.must(os.Symlink(target, b.path("links/"+name)))
	}
}

func (b treeMaker) special() {
	b.mkdir("dev", 0o755)
	for name, n := range map[string]struct {
		mode         uint32
		major, minor uint32
	}{
		"null": {unix.S_IFCHR | 0o666, 1, 3}, "sda1": {unix.S_IFBLK | 0o660, 8, 1}, "nvme": {unix.S_IFBLK | 0o600, 259, 70000},
		"fifo": {unix.S_IFIFO | 0o622, 0, 0}, "socket": {unix.S_IFSOCK | 0o755, 0, 0},
	} {
		b.must(unix.Mknod(b.path("dev/"+name), n.mode, int(unix.Mkdev(n.major, n.minor))))
		b.must(unix.Chmod(b.path("dev/"+name), n.mode&0o7777))
	}
	b.must(os.Link(b.path("dev/fifo"), b.path("dev/fifo-again")))
	b.owned("modes/setuid", "x", 0, 0, 0o4755)
	b.owned("modes/setgid", "x", 0, 50, 0o2755)
	b.owned("modes/none", "x", 0, 0, 0)
	b.owned("modes/all", "x", 65534, 65534, 0o7777)
	b.owned("modes/high", "x", 4_000_000_000, 4_000_000_001, 0o640)
	b.mkdir("modes/sticky", 0o777|os.ModeSticky)
	b.mkdir("modes/group", 0o770|os.ModeSetgid)
	b.must(os.Chown(b.path("modes/group"), 1000, 50))
}

// posixACL is the form of the system calls: version 2, then tag, permissions
// and id of each entry (posix_acl_xattr.h).
func posixACL(entries ...[3]uint32) []byte {
	out := encoding.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		out = encoding.LittleEndian.AppendUint16(out, uint16(e[0]))
		out = encoding.LittleEndian.AppendUint16(out, uint16(e[1]))
		out = encoding.LittleEndian.AppendUint32(out, e[2])
	}
	return out
}

func (b treeMaker) attributes() {
	const none = 0xffffffff
	acl := posixACL([3]uint32{1, 6, none}, [3]uint32{2, 6, 1000}, [3]uint32{4, 4, none}, [3]uint32{8, 5, 50},
		[3]uint32{0x10, 7, none}, [3]uint32{0x20, 0, none})
	// VFS_CAP_REVISION_2 and effective; cap_net_raw (capability.h)
	capability := encoding.LittleEndian.AppendUint32(nil, 0x02000001)
	capability = append(encoding.LittleEndian.AppendUint32(capability, 1<<13), make([]byte, 12)...)
	set := func(name, attr string, value []byte) {
		b.t.Helper()
		b.must(unix.Lsetxattr(b.path(name), attr, value, 0))
	}
	for _, name := range []string{"small", "several", "spill", "capability", "acl", "everything"} {
		b.file("xattrs/"+name, name)
	}
	b.mkdir("xattrs/dir", 0o750)
	b.must(os.Symlink("small", b.path("xattrs/symlink")))
	b.must(unix.Mknod(b.path("xattrs/fifo"), unix.S_IFIFO|0o600, 0))
	set("xattrs/small", "user.note", []byte("kept"))
	set("xattrs/small", "user.empty", nil)
	set("xattrs/small", "user.zeros", make([]byte, 7))
	for i := range 20 {
		set("xattrs/several", fmt.Sprintf("user.number-%d", i), []byte(b.noise(i)))
	}
	set("xattrs/spill", "user.big", []byte(b.noise(3000)))
	set("xattrs/spill", "trusted.text", bytes.Repeat([]byte("text"), 100))
	set("xattrs/capability", "security.capability", capability)
	set("xattrs/acl", "system.posix_acl_access", acl)
	set("xattrs/dir", "system.posix_acl_access", acl)
	set("xattrs/dir", "system.posix_acl_default", acl)
	set("xattrs/dir", "user.of-a-folder", []byte("x"))
	set("xattrs/symlink", "trusted.of-a-symlink", []byte("x"))
	set("xattrs/fifo", "trusted.of-a-fifo", []byte("x"))
	set("xattrs/everything", "system.posix_acl_access", acl)
	set("xattrs/everything", "security.capability", capability)
	set("xattrs/everything", "user.big", []byte(b.noise(2000)))
	set("xattrs/everything", "trusted.overlay.opaque", []byte("y"))
}

func (b treeMaker) datasets() {
	b.owned("home/ops/file", strings.Repeat("home ", 100_000), 1000, 1000, 0o600)
	b.owned("home/ops/noise", b.noise(300_000), 1000, 1000, 0o600)
	b.must(os.Chown(b.path("home/ops"), 1000, 1000))
	b.file("data/records", b.noise(2<<20)+strings.Repeat("large records ", 300_000))
	b.file("data/small", "small")
	b.file("data/plain/text", strings.Repeat("not compressed ", 50_000))
	for _, name := range []string{"root", "srv", "tmp", "var/cache", "var/lib", "var/log", "var/spool", "var/tmp"} {
		b.mkdir(name, 0o750)
	}
	b.mkdir("data", 0o775|os.ModeSetgid)
	b.times("data", time.Unix(1_700_000_000, 123_456_789))
}
