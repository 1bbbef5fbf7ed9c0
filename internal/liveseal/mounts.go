package liveseal

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// mount is a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	root, point  string // of the file system, of this process
	kind, source string // file system type; device, or dataset
}

// mounts reads this process' mounts, in the order they were made.
func mounts() ([]mount, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading what is mounted: %w", err)
	}
	return parseMounts(string(b))
}

func parseMounts(text string) ([]mount, error) {
	var out []mount
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if line == "" {
			continue
		}
		f := strings.Split(line, " ")
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) < dash+3 {
			return nil, fmt.Errorf("reading what is mounted: line %d is %q: want the fields of mountinfo", i+1, line)
		}
		out = append(out, mount{unescape(f[3]), unescape(f[4]), f[dash+1], unescape(f[dash+2])})
	}
	return out, nil
}

// unescape turns the kernel's \ooo, which it writes for blanks and
// backslashes, into the byte.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// diskTypes are file systems that an image carries. What is mounted from
// memory, from a network or by a program is not on the disk, and not sealed.
var diskTypes = []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "vfat"}

// notDisk are folders below which other disks are mounted, or none.
var notDisk = []string{"/dev", "/proc", "/run", "/sys", "/media", "/mnt"}

// onDisk tells the mounts that are parts of the machine's tree beside "/".
func (m mount) onDisk() bool {
	if m.point == "/" || !slices.Contains(diskTypes, m.kind) {
		return false
	}
	if m.root != "/" && m.kind != "btrfs" {
		return false // a folder that is mounted a second time
	}
	if m.kind == "zfs" && strings.Contains(m.source, "@") {
		return false // a snapshot that somebody looks at
	}
	return !slices.ContainsFunc(notDisk, func(dir string) bool { return m.point == dir || strings.HasPrefix(m.point, dir+"/") })
}

// diskMounts are the mount points of the machine's tree beside "/", each once,
// outer ones first.
func diskMounts(all []mount) []string {
	var out []string
	for _, m := range all {
		if m.onDisk() && !slices.Contains(out, m.point) {
			out = append(out, m.point)
		}
	}
	slices.Sort(out)
	return out
}
