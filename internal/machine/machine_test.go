package machine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An empty disk is enough for the whole way through QEMU: firmware, serial
// log, control socket, early failure and cleaning up.
func TestBootOfAnEmptyDiskFailsSoonAndCleansUp(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	image := filepath.Join(dir, "empty,disk.img")
	content := bytes.Repeat([]byte{0}, 4<<20)
	if err := os.WriteFile(image, content, 0o444); err != nil {
		t.Fatal(err)
	}
	var notes []string
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	_, err := Boot(ctx, Config{Image: image, Accel: TCG, Memory: 256, Progress: func(n string) { notes = append(notes, n) }})
	var boot *BootError
	if !errors.As(err, &boot) || !strings.HasPrefix(boot.Reason, "the firmware found nothing to boot") {
		t.Fatalf("got %v", err)
	}
	log, err := os.ReadFile(boot.Log)
	if err != nil || boot.Log != filepath.Join(dir, "empty,disk.serial.log") || !bytes.Contains(log, []byte("UEFI Interactive Shell")) {
		t.Errorf("serial log %q: %v", boot.Log, err)
	}
	if now, err := os.ReadFile(image); err != nil || !bytes.Equal(now, content) {
		t.Errorf("the image changed: %v", err)
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	if len(notes) < 2 {
		t.Errorf("no progress: %q", notes)
	}
}

func TestCancelEndsTheMachine(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	image := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o444); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	progress := func(note string) {
		if note == "power on (tcg)" {
			time.AfterFunc(300*time.Millisecond, cancel)
		}
	}
	begin := time.Now()
	_, err := Boot(ctx, Config{Image: image, Accel: TCG, Memory: 256, Progress: progress})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("took %v", d)
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("a serial log of a cancelled boot is kept: %v", left)
	}
}

func TestInspectTellsTheFormatByContent(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "named.raw")
	tool(t, "qemu-img", "create", "-q", "-f", "qcow2", image, "8M")
	d, err := inspect(context.Background(), image)
	if err != nil || d.Format != "qcow2" || d.Size != 8<<20 {
		t.Errorf("got %+v, %v", d, err)
	}
	for _, name := range []string{dir, filepath.Join(dir, "nosuch")} {
		if _, err := inspect(context.Background(), name); err == nil || !strings.HasPrefix(err.Error(), `image "`+name+`"`) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
