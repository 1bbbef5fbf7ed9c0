package verify

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxInitramfs bounds what an initramfs may unpack to.
const maxInitramfs = 4 << 30

// initramfs asserts that each entry's initramfs can mount the root: the file
// system's driver is in it, or built into the kernel.
func (m *image) initramfs() (string, error) {
	for _, e := range m.entries {
		if err := m.hasDriver(e.Version, e.Initrd, "ext4"); err != nil {
			return "", fmt.Errorf("kernel %s: %w", e.Version, err)
		}
	}
	return "ext4 in the initramfs or built in", nil
}

func (m *image) hasDriver(version string, initrds []string, driver string) error {
	dir, err := m.root.Resolve("lib/modules/" + version)
	if err != nil {
		return err
	}
	builtin, err := fs.ReadFile(m.root, dir+"/modules.builtin")
	if err == nil && bytes.Contains(builtin, []byte("/"+driver+".ko")) {
		return nil
	}
	for _, name := range initrds {
		f, err := m.esp.Open(name)
		if err != nil {
			return err
		}
		found, err := findModule(f, driver)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if found {
			return nil
		}
	}
	return fmt.Errorf("no %s module in %s, nor built in", driver, strings.Join(initrds, ", "))
}

// findModule looks for a kernel module in an initramfs: cpio archives one after
// another, the first ones plain (early microcode), the last compressed
// (kernel, Documentation/driver-api/early-userspace/buffer-format.rst).
func findModule(r io.Reader, driver string) (bool, error) {
	br := bufio.NewReaderSize(r, 1<<20)
	for {
		if err := skipZeros(br); errors.Is(err, io.EOF) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		magic, err := br.Peek(6)
		if err != nil {
			return false, err
		}
		switch {
		case string(magic[:5]) == "07070":
			found, err := scanCPIO(br, driver)
			if err != nil || found {
				return found, err
			}
			continue
		case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
			z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
			if err != nil {
				return false, err
			}
			defer z.Close()
			return scanCPIO(bufio.NewReader(io.LimitReader(z, maxInitramfs)), driver)
		case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
			z, err := gzip.NewReader(br)
			if err != nil {
				return false, err
			}
			return scanCPIO(bufio.NewReader(io.LimitReader(z, maxInitramfs)), driver)
		}
		return false, fmt.Errorf("compression with magic %s (zstd, gzip and none are read)\nhint: set COMPRESS=zstd in /etc/initramfs-tools/initramfs.conf",
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
func scanCPIO(br *bufio.Reader, driver string) (bool, error) {
	var head [110]byte
	for {
		if _, err := io.ReadFull(br, head[:]); err != nil {
			return false, fmt.Errorf("cpio header: %w", err)
		}
		if string(head[:5]) != "07070" {
			return false, fmt.Errorf("cpio header: magic %q", head[:6])
		}
		size, err1 := strconv.ParseUint(string(head[54:62]), 16, 32)
		nameSize, err2 := strconv.ParseUint(string(head[94:102]), 16, 32)
		if err1 != nil || err2 != nil || nameSize == 0 || nameSize > 4096 {
			return false, fmt.Errorf("cpio header: sizes %q and %q", head[54:62], head[94:102])
		}
		padded := (110+nameSize+3)/4*4 - 110
		name := make([]byte, padded)
		if _, err := io.ReadFull(br, name); err != nil {
			return false, fmt.Errorf("cpio name: %w", err)
		}
		text := string(name[:nameSize-1])
		if text == "TRAILER!!!" {
			return false, nil
		}
		if base := path.Base(text); base == driver+".ko" || strings.HasPrefix(base, driver+".ko.") {
			return true, nil
		}
		if _, err := io.CopyN(io.Discard, br, int64((size+3)/4*4)); err != nil {
			return false, fmt.Errorf("cpio content of %s: %w", text, err)
		}
	}
}
