package verify

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/kldload/kldload/internal/boot"
)

// maxInitramfs bounds what an initramfs may unpack to.
const maxInitramfs = 4 << 30

// initramfs asserts that each entry's initramfs can mount the root: the file
// system's driver is in it, or built into the kernel. For ZFS it also has what
// imports the pool, and no host id: see docs/design/boot.md.
func (m *image) initramfs() (string, error) {
	if len(m.kernels) == 0 {
		return "", errNoEntry
	}
	for _, e := range m.kernels {
		have, err := e.initrdFiles()
		if err == nil {
			err = m.hasDriver(e.Version, have)
		}
		if err == nil && m.rootType == boot.ZFS {
			err = importsPool(have)
		}
		if err != nil {
			return "", fmt.Errorf("kernel %s: %w", e.Version, err)
		}
	}
	return m.rootType + " in the initramfs or built in", nil
}

// initrdFiles are the paths in an entry's archives.
func (k kernel) initrdFiles() (map[string]bool, error) {
	have := map[string]bool{}
	for _, name := range k.Initrd {
		f, err := k.open(name)
		if err != nil {
			return nil, err
		}
		err = listInitramfs(f, func(name string) { have[strings.TrimPrefix(name, "./")] = true })
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
	}
	return have, nil
}

func (m *image) hasDriver(version string, have map[string]bool) error {
	dir, err := m.root.Resolve("lib/modules/" + version)
	if err != nil {
		return err
	}
	builtin, err := m.read(dir + "/modules.builtin")
	if err == nil && strings.Contains(builtin, "/"+m.rootType+".ko") {
		return nil
	}
	for name := range have {
		if base := path.Base(name); base == m.rootType+".ko" || strings.HasPrefix(base, m.rootType+".ko.") {
			return nil
		}
	}
	return fmt.Errorf("no %s module in the initramfs, nor built in", m.rootType)
}

func importsPool(have map[string]bool) error {
	if !have["scripts/zfs"] {
		return errors.New("no scripts/zfs in the initramfs: nothing imports the pool\nhint: zfs-initramfs must be installed when it is made")
	}
	if !have["sbin/zpool"] && !have["usr/sbin/zpool"] {
		return errors.New("no zpool in the initramfs: nothing imports the pool")
	}
	if have["etc/hostid"] {
		return errors.New("the initramfs has a host id, by which the pool, whose label has none, would look like another host's\nhint: remove /etc/hostid before it is made")
	}
	return nil
}

// listInitramfs calls visit with each path of an initramfs: cpio archives one
// after another, the first ones plain (early microcode), the last compressed
// (kernel, Documentation/driver-api/early-userspace/buffer-format.rst).
func listInitramfs(r io.Reader, visit func(name string)) error {
	br := bufio.NewReaderSize(r, 1<<20)
	for {
		if err := skipZeros(br); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		magic, err := br.Peek(6)
		if err != nil {
			return err
		}
		switch {
		case string(magic[:5]) == "07070":
			if err := scanCPIO(br, visit); err != nil {
				return err
			}
			continue
		case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
			z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
			if err != nil {
				return err
			}
			defer z.Close()
			return scanCPIO(bufio.NewReader(io.LimitReader(z, maxInitramfs)), visit)
		case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
			z, err := gzip.NewReader(br)
			if err != nil {
				return err
			}
			return scanCPIO(bufio.NewReader(io.LimitReader(z, maxInitramfs)), visit)
		}
		return fmt.Errorf("compression with magic %s (zstd, gzip and none are read)\nhint: set COMPRESS=zstd in /etc/initramfs-tools/initramfs.conf",
			hex.EncodeToString(magic))
	}
}

func skipZeros(br *bufio.Reader) error {
	for {
		b, err := br.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return br.UnreadByte()
		}
	}
}

// scanCPIO reads one "newc" archive (cpio(5)) up to its trailer.
func scanCPIO(br *bufio.Reader, visit func(name string)) error {
	var head [110]byte
	for {
		if _, err := io.ReadFull(br, head[:]); err != nil {
			return fmt.Errorf("cpio header: %w", err)
		}
		if string(head[:5]) != "07070" {
			return fmt.Errorf("cpio header: magic %q", head[:6])
		}
		size, err1 := strconv.ParseUint(string(head[54:62]), 16, 32)
		nameSize, err2 := strconv.ParseUint(string(head[94:102]), 16, 32)
		if err1 != nil || err2 != nil || nameSize == 0 || nameSize > 4096 {
			return fmt.Errorf("cpio header: sizes %q and %q", head[54:62], head[94:102])
		}
		padded := (110+nameSize+3)/4*4 - 110
		name := make([]byte, padded)
		if _, err := io.ReadFull(br, name); err != nil {
			return fmt.Errorf("cpio name: %w", err)
		}
		text := string(name[:nameSize-1])
		if text == "TRAILER!!!" {
			return nil
		}
		visit(text)
		if _, err := io.CopyN(io.Discard, br, int64((size+3)/4*4)); err != nil {
			return fmt.Errorf("cpio content of %s: %w", text, err)
		}
	}
}
