package machine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kldload/kldload/internal/run"
)

// probeTime bounds the probe. On a sound host it takes a tenth of a second.
const probeTime = 5 * time.Second

// The payload ends QEMU through isa-debug-exit, whose exit status is
// value<<1 | 1.
const (
	probePort   = 0xf4
	probePassed = 0x10<<1 | 1
)

// probeCode is a firmware of its own for the probe: it goes from the reset
// vector to long mode and does there what an operating system does and what
// half-working hypervisors are known to lack. A hypervisor that emulates
// privileged code instead of running it (a nested one, mostly) lacks
// cmpxchg16b, which every Linux memory allocator uses: QEMU then stops the
// machine with "KVM internal error" and waits for ever. A boot sector, or a
// firmware that starts, proves nothing about that.
//
// Written by hand rather than assembled at build time, so that `go build`
// needs no assembler. Addresses are offsets in segment F000.
var probeCode = []byte{
	// 16 bit: page tables at 0x1000, one 2 MiB page mapped onto itself.
	0xfa,       // 000 cli
	0xfc,       // 001 cld
	0x31, 0xc0, // 002 xor  ax, ax
	0x8e, 0xd8, // 004 mov  ds, ax
	0x8e, 0xc0, // 006 mov  es, ax
	0xbf, 0x00, 0x10, // 008 mov  di, 0x1000
	0x66, 0x31, 0xc0, // 00b xor  eax, eax
	0xb9, 0x00, 0x0c, // 00e mov  cx, 0xc00
	0x66, 0xf3, 0xab, // 011 rep stosd
	0x66, 0xc7, 0x06, 0x00, 0x10, 0x03, 0x20, 0, 0, // 014 mov dword [0x1000], 0x2003
	0x66, 0xc7, 0x06, 0x00, 0x20, 0x03, 0x30, 0, 0, // 01d mov dword [0x2000], 0x3003
	0x66, 0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, 0, 0, // 026 mov dword [0x3000], 0x83
	0x2e, 0x0f, 0x01, 0x1e, 0x36, 0x01, // 02f lidt [cs:noidt]
	// Long mode: SDM vol. 3A, 10.8.5 "Initializing IA-32e Mode".
	0x66, 0xb8, 0x00, 0x10, 0, 0, // 035 mov  eax, 0x1000
	0x0f, 0x22, 0xd8, // 03b mov  cr3, eax
	0x66, 0xb8, 0x20, 0x00, 0, 0, // 03e mov  eax, CR4.PAE
	0x0f, 0x22, 0xe0, // 044 mov  cr4, eax
	0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, // 047 mov  ecx, IA32_EFER
	0x0f, 0x32, // 04d rdmsr
	0x66, 0x0d, 0x00, 0x01, 0, 0, // 04f or   eax, EFER.LME
	0x0f, 0x30, // 055 wrmsr
	0x2e, 0x66, 0x0f, 0x01, 0x16, 0x30, 0x01, // 057 lgdt [cs:gdtr]
	0x66, 0xb8, 0x01, 0x00, 0x00, 0x80, // 05e mov  eax, CR0.PG | CR0.PE
	0x0f, 0x22, 0xc0, // 064 mov  cr0, eax
	0x66, 0xea, 0x6f, 0x00, 0x0f, 0x00, 0x08, 0x00, // 067 jmp 8:0xf006f
	// 64 bit.
	0xb8, 0x10, 0, 0, 0, // 06f mov  eax, 0x10
	0x8e, 0xd8, // 074 mov  ds, eax
	0x8e, 0xc0, // 076 mov  es, eax
	0x8e, 0xd0, // 078 mov  ss, eax
	0xbc, 0x00, 0x80, 0, 0, // 07a mov  esp, 0x8000
	// cmpxchg16b on ordinary memory: {1,2} becomes {3,4}.
	0xbf, 0x00, 0x90, 0, 0, // 07f mov  edi, 0x9000
	0x48, 0xc7, 0x07, 1, 0, 0, 0, // 084 mov  qword [rdi], 1
	0x48, 0xc7, 0x47, 0x08, 2, 0, 0, 0, // 08b mov  qword [rdi+8], 2
	0xb8, 1, 0, 0, 0, // 093 mov  eax, 1
	0xba, 2, 0, 0, 0, // 098 mov  edx, 2
	0xbb, 3, 0, 0, 0, // 09d mov  ebx, 3
	0xb9, 4, 0, 0, 0, // 0a2 mov  ecx, 4
	0xf0, 0x48, 0x0f, 0xc7, 0x0f, // 0a7 lock cmpxchg16b [rdi]
	0x75, 0x5f, // 0ac jnz  bad
	0x48, 0x83, 0x7f, 0x08, 0x04, // 0ae cmp  qword [rdi+8], 4
	0x75, 0x58, // 0b3 jne  bad
	// The same in a page table that is in use, which a hypervisor with
	// shadow page tables write-protects and emulates.
	0xbf, 0xf0, 0x3f, 0, 0, // 0b5 mov  edi, 0x3ff0
	0x31, 0xc0, // 0ba xor  eax, eax
	0x31, 0xd2, // 0bc xor  edx, edx
	0x31, 0xdb, // 0be xor  ebx, ebx
	0x31, 0xc9, // 0c0 xor  ecx, ecx
	0xf0, 0x48, 0x0f, 0xc7, 0x0f, // 0c2 lock cmpxchg16b [rdi]
	0x75, 0x44, // 0c7 jnz  bad
	// SSE, as memcpy uses it.
	0x0f, 0x20, 0xc0, // 0c9 mov  rax, cr0
	0x83, 0xe0, 0xfb, // 0cc and  eax, ~CR0.EM
	0x83, 0xc8, 0x02, // 0cf or   eax, CR0.MP
	0x0f, 0x22, 0xc0, // 0d2 mov  cr0, rax
	0x0f, 0x20, 0xe0, // 0d5 mov  rax, cr4
	0x0d, 0x00, 0x06, 0, 0, // 0d8 or   eax, CR4.OSFXSR | CR4.OSXMMEXCPT
	0x0f, 0x22, 0xe0, // 0dd mov  cr4, rax
	0xf3, 0x0f, 0x6f, 0x04, 0x25, 0x00, 0x90, 0, 0, // 0e0 movdqu xmm0, [0x9000]
	0xf3, 0x0f, 0x7f, 0x04, 0x25, 0x10, 0x90, 0, 0, // 0e9 movdqu [0x9010], xmm0
	0x48, 0x83, 0x3c, 0x25, 0x10, 0x90, 0, 0, 0x03, // 0f2 cmp qword [0x9010], 3
	0x75, 0x10, // 0fb jne  bad
	// A million calls: instant when run, endless when emulated one by one.
	0xb9, 0x40, 0x42, 0x0f, 0x00, // 0fd mov  ecx, 1000000
	0xe8, 0x0d, 0, 0, 0, // 102 call nothing
	0xe2, 0xf9, // 107 loop 0x102
	0xb0, 0x10, // 109 mov  al, 0x10
	0xe6, probePort, // 10b out  0xf4, al
	0xb0, 0x11, // 10d bad: mov al, 0x11
	0xe6, probePort, // 10f out  0xf4, al
	0xf4,       // 111 hlt
	0xeb, 0xf9, // 112 jmp  bad
	0xc3,             // 114 nothing: ret
	0x0f, 0x1f, 0x00, // 115 nop
	0, 0, 0, 0, 0, 0, 0, 0, // 118 gdt: null
	0xff, 0xff, 0, 0, 0, 0x9b, 0xaf, 0, // 120 64-bit code
	0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0, // 128 data
	0x17, 0x00, 0x18, 0x01, 0x0f, 0x00, // 130 gdtr: 23, 0xf0118
	0, 0, 0, 0, 0, 0, // 136 noidt
}

// probeROM is the payload as a 64 KiB firmware image; the processor starts
// 16 bytes below its end.
func probeROM() []byte {
	rom := make([]byte, 64<<10)
	copy(rom, probeCode)
	reset := rom[len(rom)-16:]
	reset[0] = 0xea // jmp F000:0000
	binary.LittleEndian.PutUint16(reset[1:], 0)
	binary.LittleEndian.PutUint16(reset[3:], 0xf000)
	return rom
}

// probe runs the payload with accel and the processor a real machine gets.
// It returns "" when it ended well, else why the accelerator is not usable.
func probe(ctx context.Context, accel Accel) (string, error) {
	return probeWith(ctx, accelArgs(accel), probeTime)
}

func probeWith(ctx context.Context, accel []string, limit time.Duration) (string, error) {
	work, err := newWorkDir()
	if err != nil {
		return "", err
	}
	rom := work.path("probe.rom")
	if err := os.WriteFile(rom, probeROM(), 0o600); err != nil {
		return "", errors.Join(err, work.remove())
	}
	reason, err := runProbe(ctx, accel, rom, limit)
	return reason, errors.Join(err, work.remove())
}

func runProbe(ctx context.Context, accel []string, rom string, limit time.Duration) (string, error) {
	tctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	args := append([]string{qemu}, accel...)
	args = append(args, "-machine", "q35", "-m", "32", "-nodefaults", "-display", "none", "-no-reboot",
		"-bios", rom, "-device", fmt.Sprintf("isa-debug-exit,iobase=%#x,iosize=1", probePort))
	ch, err := startChild(tctx, run.Cmd{Doing: "probing an accelerator", Args: args})
	if err != nil {
		return "", err
	}
	<-ch.done
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return probeVerdict(ch.err), nil
}

// probeVerdict says what the probe's end means.
func probeVerdict(err error) string {
	var exit *run.ExitError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "a tiny guest hangs"
	case !errors.As(err, &exit):
		return fmt.Sprintf("a tiny guest ended oddly (%v)", err)
	case exit.Code == probePassed:
		return ""
	case exit.Tail != "":
		return "qemu: " + plainExit(exit)
	}
	return "a tiny guest got a wrong result"
}
