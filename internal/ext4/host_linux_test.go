package ext4

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func getxattr(path, name string) ([]byte, error) {
	b := make([]byte, 8192)
	n, err := unix.Lgetxattr(path, name, b)
	return b[:max(n, 0)], err
}

func listxattr(t *testing.T, path string) map[string][]byte {
	b := make([]byte, 8192)
	n, err := unix.Llistxattr(path, b)
	if err != nil || n == 0 {
		return nil
	}
	set := map[string][]byte{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00") {
		v, err := getxattr(path, name)
		if err != nil {
			t.Fatalf("%s: attribute %s: %v", path, name, err)
		}
		set[name] = v
	}
	return set
}

func hostNode(info os.FileInfo) Node {
	st := info.Sys().(*syscall.Stat_t)
	n := Node{Ino: uint32(st.Ino), Links: uint32(st.Nlink)}
	n.Mode, n.UID, n.GID, n.Size, n.ModTime = st.Mode, st.Uid, st.Gid, st.Size, info.ModTime().UTC()
	n.Major, n.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	return n
}

func hasSysResource(t *testing.T) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
