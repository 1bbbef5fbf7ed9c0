package machine

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/kldload/kldload/internal/fat"
)

// seedSlack is what the seed volume has beyond its files, for FAT's tables.
const seedSlack = 1 << 20

// Seed is what a clone is told on its first boot: the NoCloud datasource's
// files, on a FAT volume with the label CIDATA.
type Seed struct {
	Name       string // local-hostname
	InstanceID string // a new one makes cloud-init do its per-instance work
	User       string
	Key        ssh.PublicKey
	// UserData replaces the default, which makes User with Key and sudo,
	// and no password. NetworkConfig is left out when empty: DHCP.
	UserData, NetworkConfig []byte
}

// instanceID is different for each clone.
func instanceID(name string) string {
	var b [8]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return name + "-" + hex.EncodeToString(b[:])
}

// files are the seed's, by name.
func (s Seed) files() map[string][]byte {
	files := map[string][]byte{
		"meta-data": fmt.Appendf(nil, "instance-id: %q\nlocal-hostname: %q\n", s.InstanceID, s.Name),
		"user-data": s.UserData,
	}
	if s.UserData == nil {
		files["user-data"] = fmt.Appendf(nil, defaultUserData, s.User,
			strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.Key))))
	}
	if len(s.NetworkConfig) > 0 {
		files["network-config"] = s.NetworkConfig
	}
	return files
}

const defaultUserData = `#cloud-config
users:
  - name: %q
    gecos: throw-away login of kldload
    shell: /bin/bash
    sudo: "ALL=(ALL) NOPASSWD:ALL"
    lock_passwd: true
    ssh_authorized_keys:
      - %q
ssh_pwauth: false
`

// write makes the volume.
func (s Seed) write(name string, now time.Time) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(s.writeTo(f, now), f.Close()); err != nil {
		return fmt.Errorf("writing the seed volume: %w", err)
	}
	return nil
}

func (s Seed) writeTo(f *os.File, now time.Time) error {
	files := s.files()
	size := int64(seedSlack)
	for _, content := range files {
		size += (int64(len(content)) + seedSlack - 1) / seedSlack * seedSlack
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	w, err := fat.NewWriter(f, fat.Options{Size: size, Label: "CIDATA", VolumeID: seedVolumeID, Epoch: now})
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.Create(name, int64(len(files[name])), bytes.NewReader(files[name]), now); err != nil {
			return err
		}
	}
	return w.Close()
}

const seedVolumeID = 0x4b4c444c // "KLDL"
