package distro

import (
	"fmt"
	"regexp"
	"sort"
	"strings"
	"time"
)

// Install says how the package stage makes a Debian root tree from a darksite.
// It runs mmdebstrap as root of a sandbox without network.
type Install struct {
	Repository string // the darksite's repository, a folder
	Key        string // the public key that signed it
	Release    string
	Packages   []string // beside Essential: yes and apt
	Kernel     string   // the ABI name: 6.1.0-50-amd64
	Locale     string
	Epoch      time.Time
}

// stageVersion is part of the cache key: raise it when the same Install gives
// another tree.
const stageVersion = "3"

// Key names everything the tree depends on beside the darksite's content.
func (i Install) CacheInputs() []string {
	packages := append([]string(nil), i.Packages...)
	sort.Strings(packages)
	return append([]string{"debian", stageVersion, i.Release, i.Kernel, i.Locale, fmt.Sprint(i.Epoch.Unix())}, packages...)
}

// Bootstrap is the command that installs the packages into the folder root.
func (i Install) Bootstrap(root string) []string {
	source := fmt.Sprintf("deb [signed-by=%s] copy:%s %s main", i.Key, i.Repository, i.Release)
	return []string{"mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory",
		"--include=" + strings.Join(i.Packages, ","),
		`--aptopt=APT::Install-Recommends "false"`,
		`--aptopt=APT::Sandbox::User "root"`, // _apt cannot read an ordinary user's folders
		`--aptopt=Acquire::Languages "none"`,
		"--dpkgopt=force-unsafe-io", // the tree is packed and synced afterwards
		// The manual's index is built by the first man-db.timer instead.
		// The host's name and resolver, which mmdebstrap copies, are none of ours.
		`--setup-hook=echo localhost >"$1/etc/hostname"; rm -f "$1/etc/resolv.conf"`,
		// No /vmlinuz links: the boot loader reads the EFI system partition.
		`--essential-hook=echo do_symlinks = no >"$1/etc/kernel-img.conf"`,
		`--essential-hook=echo man-db man-db/auto-update boolean false | chroot "$1" debconf-set-selections`,
		i.Release, root, source}
}

// Env is the environment of every command that works on the tree. INITRD=No
// keeps kernel packages from making an initramfs each time one of their
// neighbours is configured; Finish makes the one.
func (i Install) Env() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb",
		"LANG=C.UTF-8", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", i.Epoch.Unix()),
	}
}

// BootstrapEnv is Env for Bootstrap alone.
func (i Install) BootstrapEnv() []string { return append(i.Env(), "INITRD=No") }

// Finish is the command that, inside the tree, makes what the packages left
// for last: the locale and the initramfs.
func (i Install) Finish() []string {
	script := "set -e\ncd /\n"
	if locale := i.Locale; locale != "" && locale != "C.UTF-8" && locale != "C" && locale != "POSIX" {
		charset := "UTF-8"
		if _, c, ok := strings.Cut(locale, "."); ok {
			charset = c
		}
		script += fmt.Sprintf("echo '%s %s' >/etc/locale.gen\nlocale-gen >/dev/null\n", locale, charset)
	}
	// zfsutils-linux made a random host id, which the initramfs would carry
	// into every clone.
	script += "rm -f etc/hostid\n"
	script += "update-initramfs -c -k " + i.Kernel + "\n"
	script += "rm -f etc/hostname " + strings.Join(leftovers, " ") + "\n"
	script += "[ -L etc/resolv.conf ] || rm -f etc/resolv.conf\n"
	return []string{"sh", "-c", script}
}

// leftovers are what mmdebstrap puts into a tree for its own use.
var leftovers = []string{
	"etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap", "etc/.resolv.conf.systemd-resolved.bak",
}

// Files are the tree's settings that follow from the template.
func (i Install) Files(timezone string) map[string]string {
	return map[string]string{
		"etc/apt/sources.list": "# Package sources are a deployment's choice: give them in cloud-init's apt section.\n",
		"etc/timezone":         timezone + "\n",
		"etc/default/locale":   "LANG=" + i.Locale + "\n",
		"etc/hosts": "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n" +
			"ff02::1\t\tip6-allnodes\nff02::2\t\tip6-allrouters\n",
	}
}

// AptConf makes apt inside the tree read the darksite, mounted at mount, and
// keep its lists and archives outside of the image.
func AptConf(state string) string {
	return fmt.Sprintf(`Dir::Etc::sourcelist "%s/sources.list";
Dir::State::lists "%s/lists";
Dir::Cache::archives "%s/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
`, state, state, state)
}

// AptSource is the line for a darksite at a path.
func AptSource(path, key, release string) string {
	return fmt.Sprintf("deb [signed-by=%s] file:%s %s main\n", key, path, release)
}

// missing finds the package in apt's complaint.
var missing = regexp.MustCompile(`(?:Unable to locate package|has no installation candidate:?|Package '?)\s*'?([a-z0-9][a-z0-9+.-]+)`)

// MissingPackage names the package apt could not find, or "".
func MissingPackage(stderr string) string {
	for _, line := range strings.Split(stderr, "\n") {
		if !strings.Contains(line, "Unable to locate package") && !strings.Contains(line, "no installation candidate") {
			continue
		}
		if m := missing.FindStringSubmatch(line); m != nil {
			return m[1]
		}
	}
	return ""
}
