//go:build integration

package test

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

// TestOrdinaryUserWithoutNetworkSameBytes builds one template twice: as root
// from the shared cache, and as an ordinary user with nothing cached, in an
// empty network namespace, on a host of another name, zone, umask and path.
// The images must be equal to the byte; then strangers judge one of them, and
// one of the same template with its root on ext4, which this kernel mounts. At
// the end the user's cached tree is damaged: that is noticed, and the rebuilt
// image is equal again.
func TestOrdinaryUserWithoutNetworkSameBytes(t *testing.T) {
	needRoot(t)
	site := darksite(t)
	golden := folder(t, everything(site))
	call{dir: golden}.build(t).succeeded(t)

	u := newUser(t)
	dir := folder(t, everything(readable(t, site)))
	u.own(t, dir)
	asUser := call{dir: dir, cache: filepath.Join(u.home, "cache"), prefix: u.prefix()}
	first := asUser.build(t).succeeded(t)
	if got := first.status("tree"); got != "" {
		t.Errorf("the first build's tree stage was %q: want it made", got)
	}
	same(t, golden, dir)
	t.Run("judged", func(t *testing.T) { judgePool(t, filepath.Join(golden, "out", "golden.raw")) })
	t.Run("ext4", func(t *testing.T) {
		plain := everything(site)
		plain.source += "\n  storage = \"ext4\""
		dir := folder(t, plain)
		call{dir: dir}.build(t).succeeded(t)
		judgeExt4(t, filepath.Join(dir, "out", "golden.raw"))
	})
	t.Run("nothing left", func(t *testing.T) { nothingLeft(t, asUser.cache, dir) })

	t.Run("damaged cache", func(t *testing.T) {
		flip(t, filepath.Join(asUser.cache, "trees"))
		again := asUser.build(t, "-force").succeeded(t)
		if got := again.status("tree"); got != "" || !again.logged("damaged") {
			t.Errorf("tree stage %q, want it made again with a word about the damage:\n%s", got, tailOf(again.stdout))
		}
		same(t, golden, dir)
	})
}

// same compares the raw images of two working directories, and what is told of
// them by whoever built them; signatures and provenance are each one's own.
func same(t *testing.T, a, b string) {
	t.Helper()
	sumA, sumB := read(t, a, "out/golden.sha256sum"), read(t, b, "out/golden.sha256sum")
	rawA, rawB := filepath.Join(a, "out/golden.raw"), filepath.Join(b, "out/golden.raw")
	if sumA != sumB {
		explain(t, rawA, rawB)
		t.Fatalf("two builds differ:\n%s%s", sumA, sumB)
	}
	tool(t, "cmp", rawA, rawB)
	for _, name := range []string{"golden.spdx.json", "golden.cdx.json", "golden.manifest.json"} {
		tool(t, "cmp", filepath.Join(a, "out", name), filepath.Join(b, "out", name))
	}
}

// explain says what differs inside two images.
func explain(t *testing.T, a, b string) {
	t.Helper()
	var list [2]string
	for i, raw := range []string{a, b} {
		list[i] = tool(t, binary, "zfs", "ls", "-l", "-R", raw+":/")
	}
	for _, l := range [][2]string{{list[0], list[1]}, {list[1], list[0]}} {
		for i, line := range strings.Split(l[0], "\n") {
			if i < 1e6 && !strings.Contains(l[1], line+"\n") {
				t.Log("only in one:", line)
			}
		}
	}
}

// flip changes one byte in the middle of the largest file that is cached.
func flip(t *testing.T, trees string) {
	t.Helper()
	name := strings.TrimSpace(tool(t, "sh", "-ec", `find "$1" -type f -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-`, "sh", trees))
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	flipAt(t, name, st.Size()/2)
}

// flipAt changes a bit of the byte at an offset; again, it changes it back.
func flipAt(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// readable makes the darksite visible to every user, under another path.
func readable(t *testing.T, site string) string {
	t.Helper()
	to := filepath.Join(public, "mirror")
	if !exists(t, to) {
		if exec.Command("cp", "-al", site, to).Run() != nil { // another file system
			tool(t, "rm", "-rf", to)
			tool(t, "cp", "-a", "--reflink=auto", site, to)
		}
	}
	return to
}

// ordinary is a user without any privilege but subordinate ids.
type ordinary struct{ name, home string }

func newUser(t *testing.T) ordinary {
	t.Helper()
	name := "kldtest" + strings.TrimPrefix(filepath.Base(public), "kldload-test-")
	tool(t, "useradd", "--create-home", "--shell", "/bin/sh", name)
	t.Cleanup(func() { tool(t, "userdel", "--remove", name) })
	if !hasRange(t, name) {
		tool(t, "usermod", "--add-subuids", "500000-565535", "--add-subgids", "500000-565535", name)
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return ordinary{name, u.HomeDir}
}

func hasRange(t *testing.T, name string) bool {
	t.Helper()
	text, err := os.ReadFile("/etc/subuid")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Contains("\n"+string(text), "\n"+name+":")
}

func (u ordinary) own(t *testing.T, dir string) {
	t.Helper()
	tool(t, "chown", "-R", u.name+":", dir)
}

// prefix starts a command as the user, far from this host: no network at all,
// another host name, umask, time zone and language.
func (u ordinary) prefix() []string {
	return []string{"unshare", "--net", "--uts", "sh", "-ec",
		`hostname elsewhere; test "$(ip -o link | wc -l)" = 1; user=$1; shift; umask 077
exec runuser -u "$user" -- env -u XDG_DATA_HOME HOME="$(getent passwd "$user" | cut -d: -f6)" TZ=Asia/Tokyo LANG=tr_TR.UTF-8 "$@"`, "sh", u.name}
}
