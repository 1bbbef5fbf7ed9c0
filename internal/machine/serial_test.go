package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSerialNoticesDeath(t *testing.T) {
	for text, want := range map[string]string{
		"[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n": "kernel panic: Kernel panic - not syncing: VFS: Unable to mount",
		"\x1b[0m\x1b[30m\x1b[47mYou are in emergency mode. After logging in, type \"journalctl -xb\"":  "the guest is in emergency mode",
		"Give root password for maintenance\r\n(or press Control-D to continue): ":                     "the guest is in emergency mode",
		"ALERT!  UUID=x does not exist.  Dropping to a shell!\r\n":                                     "the initramfs gave up: ALERT!  UUID=x does not exist.  Dropping to a shell!",
		"(initramfs) ": "the initramfs gave up",
		"\x1b[2J\x1b[01;01HUEFI Interactive Shell v2.2\r\n": "the firmware found nothing to boot",
		"grub rescue> ": "the boot loader gave up",
	} {
		for _, chunk := range []int{1, 7, 1 << 20} {
			s := &serial{}
			for rest := "[    0.0] Linux version 6.1\r\n" + text; rest != ""; {
				n := min(chunk, len(rest))
				s.feed([]byte(rest[:n]))
				rest = rest[n:]
			}
			if !strings.HasPrefix(s.fatal, want) {
				t.Errorf("%q in chunks of %d: got %q, want %q", text, chunk, s.fatal, want)
			}
		}
	}
}

func TestSerialIsNotAlarmedByABoot(t *testing.T) {
	const boot = "BdsDxe: failed to load Boot0001 \"UEFI Misc Device\": Not Found\r\n" +
		"[    0.0] Command line: root=UUID=x ro panic=0 rd.shell=0\r\n" +
		"[  OK  ] Started Emergency Shell units: emergency.target\r\n[    1.1] Run /init as init process (initramfs)\r\n" +
		"Debian GNU/Linux 12 web1 ttyS0\r\n\r\nweb1 login: "
	s := &serial{}
	s.feed([]byte(boot))
	if s.fatal != "" {
		t.Errorf("alarmed by %q", s.fatal)
	}
	if !strings.HasSuffix(s.tail(), "web1 login:") {
		t.Errorf("tail is %q", s.tail())
	}
}

func TestSerialFollowsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "serial.log")
	s, err := newSerial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, text := range []string{"one\ntw", "o\nKernel panic - not ", "syncing: oops\n"} {
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if _, err := s.poll(); err != nil {
			t.Fatal(err)
		}
	}
	if s.fatal != "kernel panic: Kernel panic - not syncing: oops" || s.lines[1] != "two" {
		t.Errorf("got %q, %q", s.fatal, s.lines)
	}
}

func FuzzSerial(f *testing.F) {
	f.Add([]byte("a\x1b[0mb\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		s := &serial{}
		cut = max(0, min(cut, len(b)))
		s.feed(b[:cut])
		s.feed(b[cut:])
		if len(s.line) > serialLineMax || len(s.lines) > serialLines {
			t.Errorf("unbounded: %d bytes, %d lines", len(s.line), len(s.lines))
		}
	})
}
