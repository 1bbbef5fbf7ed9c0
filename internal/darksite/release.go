package darksite

import (
	"fmt"
	"strings"
)

// release is what differs between the releases that can be mirrored.
type release struct {
	distro, name string
	arches       []string
	// suites are wanted of the host's mirrors; the first must be there.
	suites     []string
	components []string
	keyring    string            // upstream's keys on a Debian host
	keyringPkg string            // the package that ships it
	kernels    map[string]string // flavour to meta package, without the architecture
}

func supported() []release {
	return []release{{
		distro: "debian", name: "bookworm",
		arches:     []string{"amd64"},
		suites:     []string{"bookworm", "bookworm-updates", "bookworm-security"},
		components: []string{"main", "contrib"}, // ZFS is in contrib
		keyring:    "/usr/share/keyrings/debian-archive-keyring.gpg",
		keyringPkg: "debian-archive-keyring",
		kernels:    map[string]string{"generic": "linux-image-", "cloud": "linux-image-cloud-"},
	}}
}

func findRelease(distro, name, arch string) (release, error) {
	var have []string
	for _, r := range supported() {
		for _, a := range r.arches {
			if r.distro == distro && r.name == name && a == arch {
				return r, nil
			}
			have = append(have, fmt.Sprintf("%s %s %s", r.distro, r.name, a))
		}
	}
	return release{}, fmt.Errorf("%s %s %s: no such release here\nhint: supported: %s",
		distro, name, arch, strings.Join(have, "; "))
}
