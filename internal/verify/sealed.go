package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/kldload/kldload/internal/seal"
)

// accounts asserts that no password opens the machine. An item of the seal
// says it of every file; this one says it of what shadow(5) means.
func (m *image) accounts() (string, error) {
	text, err := m.read("etc/shadow")
	if err != nil {
		return "", err
	}
	accounts, root := 0, false
	for line := range strings.SplitSeq(text, "\n") {
		name, rest, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		field, _, _ := strings.Cut(rest, ":")
		switch {
		case field == "":
			return "", fmt.Errorf("%q logs in without a password", name)
		case strings.HasPrefix(field, "$"):
			return "", fmt.Errorf("%q has a password", name)
		case strings.Trim(field, "!*") != "":
			return "", fmt.Errorf("%q has a password, or one that is locked and can be unlocked", name)
		}
		accounts++
		root = root || name == "root"
	}
	if !root {
		return "", errors.New(`want a line of "root" in /etc/shadow, locked`)
	}
	return fmt.Sprintf("%d, none has a password, root is locked", accounts), nil
}

// randomSeed is systemd-boot's, on the EFI system partition.
const randomSeed = "loader/random-seed"

// sealed gives a check for each item of the seal.
func (m *image) sealed(opts seal.Options) []Check {
	items, err := seal.Check(m.root, opts)
	if err != nil {
		return []Check{run("seal", Seal, func() (string, error) { return "", err })}
	}
	var checks []Check
	for _, item := range items {
		if m.esp != nil && item.Item == "random-seed" {
			if _, err := fs.Stat(m.esp, randomSeed); err == nil {
				item.Violations = append(item.Violations, seal.Violation{Item: item.Item, Path: "boot/efi/" + randomSeed, Want: "must not be there"})
			}
		}
		c := run(item.Item, Seal, func() (string, error) { return "", violated(item.Violations) })
		c.Violations, c.Why = item.Violations, item.Why
		checks = append(checks, c)
	}
	return checks
}

// maxNamed is how many files an error names.
const maxNamed = 5

// violated is nil without violations. checkRoot has put datasets before names.
func violated(all []seal.Violation) error {
	var errs []error
	for i, v := range all {
		if i == maxNamed {
			errs = append(errs, fmt.Errorf("… and %d more", len(all)-i))
			break
		}
		where := v.Path
		if !strings.Contains(where, ":/") { // the root that is started
			where = "/" + where
		}
		errs = append(errs, fmt.Errorf("%s: %s", where, v.Want))
	}
	return errors.Join(errs...)
}

// pool asserts that the initramfs, which knows no host id, will import it.
func (m *image) pool() (string, error) {
	pool := m.volume.Volume.Pool
	return importable(pool.Name(), pool.Label())
}

// importable: zpool refuses a pool that another host has in use, by its label.
func importable(name string, label map[string]any) (string, error) {
	state, _ := label["state"].(uint64)
	host, _ := label["hostid"].(uint64)
	switch {
	case state == 1: // POOL_STATE_EXPORTED of sys/fs/zfs.h
		return name + ", exported", nil
	case host == 0:
		return name + ", in use by no host", nil
	}
	return "", fmt.Errorf("%s is in use by host %08x: a machine without that host id will not import it\nhint: kexport seal --input IMAGE --output IMAGE2 writes a new pool", name, host)
}
