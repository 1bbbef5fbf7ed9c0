package machine

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"testing"
)

func TestProbeEndsUnderTCG(t *testing.T) {
	reason, err := probe(context.Background(), TCG)
	if err != nil || reason != "" {
		t.Fatalf("the probe guest does not work under emulation: %q, %v", reason, err)
	}
}

func TestProbeSaysWhyNot(t *testing.T) {
	reason, err := probeWith(context.Background(), []string{"-accel", "tcg", "-S"}, probeTime/20)
	if err != nil || !strings.Contains(reason, "hangs") { // -S does not start it
		t.Errorf("a guest that never runs: %q, %v", reason, err)
	}
	reason, err = probeWith(context.Background(), []string{"-accel", "nosuch"}, probeTime)
	if err != nil || !strings.HasPrefix(reason, "qemu: ") {
		t.Errorf("no such accelerator: %q, %v", reason, err)
	}
}

func TestProbeROM(t *testing.T) {
	rom := probeROM()
	if len(rom) != 64<<10 || rom[len(rom)-16] != 0xea || binary.LittleEndian.Uint16(rom[len(rom)-13:]) != 0xf000 {
		t.Error("no jump at the reset vector")
	}
	if len(probeCode) != 0x13c || !bytes.Equal(probeCode[0xa7:0xac], []byte{0xf0, 0x48, 0x0f, 0xc7, 0x0f}) {
		t.Errorf("the offsets in the comments are wrong (%#x bytes)", len(probeCode))
	}
}

func TestVerdictIsRemembered(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if v, ok := rememberedVerdict("7.2"); ok {
		t.Fatalf("remembers %v from nowhere", v)
	}
	want := Verdict{Accel: TCG, Reason: "a tiny guest hangs"}
	rememberVerdict("7.2", want)
	if got, ok := rememberedVerdict("7.2"); !ok || got != want {
		t.Errorf("got %v %v, want %v", got, ok, want)
	}
	if _, ok := rememberedVerdict("8.0"); ok {
		t.Error("the verdict of another QEMU is believed")
	}
	if got := want.String(); got != "tcg (no usable kvm)" {
		t.Errorf("got %q", got)
	}
}

func TestChooseAccelObeys(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, want := range []Accel{KVM, TCG} {
		if v, err := chooseAccel(context.Background(), want, "x"); err != nil || v != (Verdict{Accel: want}) {
			t.Errorf("%s: got %v, %v", want, v, err)
		}
	}
	if _, err := chooseAccel(context.Background(), "xen", "x"); err == nil || !strings.Contains(err.Error(), "want auto, kvm or tcg") {
		t.Errorf("got %v", err)
	}
}
