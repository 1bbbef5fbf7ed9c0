package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// serial follows the log that QEMU writes the guest's first serial port to.
// It keeps the last lines and notices when the guest will never come up.
type serial struct {
	path  string
	file  *os.File
	off   int64
	line  []byte   // unfinished
	lines []string // the last ones, cleaned
	fatal string
	open  bool // fatal is of the unfinished line
}

const (
	serialLines   = 20
	serialLineMax = 4 << 10 // a longer line is cut
	serialChunk   = 64 << 10
)

// newSerial makes the file, empty.
func newSerial(path string) (*serial, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("serial log: %w", err)
	}
	return &serial{path: path, file: f}, nil
}

// dead are the ways a guest says that it will not come up, with what to call
// them. A prompt has no line end, so unfinished lines are looked at too.
var dead = []struct {
	text, name string
}{
	{"Kernel panic - not syncing", "kernel panic"},
	{"You are in emergency mode", "the guest is in emergency mode"},
	{"You are in rescue mode", "the guest is in rescue mode"},
	{"Give root password for maintenance", "the guest is in emergency mode"},
	{"Cannot open access to console, the root account is locked", "the guest is in emergency mode"},
	{"Dropping to a shell!", "the initramfs gave up"},
	{"(initramfs) ", "the initramfs gave up"},
	{"dracut-emergency", "the initramfs gave up"},
	{"UEFI Interactive Shell", "the firmware found nothing to boot"},
	{"BdsDxe: No bootable option or device was found", "the firmware found nothing to boot"},
	{">>Start PXE over IPv4", "the firmware found nothing to boot"},
	{"Error loading EFI binary", "the boot loader gave up"},
	{"grub rescue>", "the boot loader gave up"},
}

// escapes are terminal control sequences (ECMA-48 CSI and two-character ones)
// and control characters.
var escapes = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]|[\x00-\x08\x0b-\x1f\x7f]`)

// stamp is the time the kernel puts before its lines.
var stamp = regexp.MustCompile(`^\[ *[0-9.]+\] `)

// poll reads what is new. It returns why the guest is dead, or "".
func (s *serial) poll() (string, error) {
	buf := make([]byte, serialChunk)
	for {
		n, err := s.file.ReadAt(buf, s.off)
		s.off += int64(n)
		s.feed(buf[:n])
		if errors.Is(err, io.EOF) {
			return s.fatal, nil
		}
		if err != nil {
			return s.fatal, fmt.Errorf("reading the serial log: %w", err)
		}
	}
}

func (s *serial) feed(b []byte) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			s.grow(b)
			s.look()
			return
		}
		s.grow(b[:i])
		s.look()
		if line := clean(s.line); line != "" {
			s.lines = append(s.lines, line)
			s.lines = s.lines[max(0, len(s.lines)-serialLines):]
		}
		s.line, s.open = s.line[:0], false
		b = b[i+1:]
	}
}

func (s *serial) grow(b []byte) {
	s.line = append(s.line, b[:min(len(b), serialLineMax-len(s.line))]...)
}

// look notes the first thing that says the guest is dead.
func (s *serial) look() {
	if s.fatal != "" && !s.open {
		return
	}
	line := clean(s.line)
	for _, d := range dead {
		// The kernel's command line and systemd's unit names may hold a
		// prompt's words; a prompt starts its line.
		at := strings.Index(line, strings.TrimRight(d.text, " "))
		if at < 0 || (strings.HasPrefix(d.text, "(") && at > 0) {
			continue
		}
		s.fatal, s.open = d.name+": "+stamp.ReplaceAllString(line, ""), true
		return
	}
}

// clean drops terminal control and invalid UTF-8.
func clean(line []byte) string {
	return strings.TrimSpace(strings.ToValidUTF8(escapes.ReplaceAllString(string(line), ""), "?"))
}

// last is the last finished line.
func (s *serial) last() string {
	if len(s.lines) == 0 {
		return ""
	}
	return s.lines[len(s.lines)-1]
}

// tail is the last lines, indented for an error message.
func (s *serial) tail() string {
	lines := s.lines
	if line := clean(s.line); line != "" {
		lines = append(lines[:len(lines):len(lines)], line)
	}
	if len(lines) == 0 {
		return "  (the serial log is empty)"
	}
	return "  " + strings.Join(lines[max(0, len(lines)-12):], "\n  ")
}

func (s *serial) close() error { return s.file.Close() }
