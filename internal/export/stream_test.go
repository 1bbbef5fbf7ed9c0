package export

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestStreams(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := makeDisk(t, filepath.Join(dir, "disk.raw"))
	image, err := os.Open(filepath.Join(dir, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	go func() { io.Copy(pw, bytes.NewReader(disk)); pw.Close() }()
	for name, in := range map[string]*os.File{"a file": image, "a pipe": pr} {
		var out bytes.Buffer
		r := request(t, dir, "raw")
		r.Input, r.Stdin, r.Stdout, r.Output, r.OutputDir = "-", in, &out, "-", ""
		result, err := Convert(t.Context(), r)
		if err != nil || !bytes.Equal(out.Bytes(), disk) {
			t.Errorf("%s: %d bytes of %d, %v", name, out.Len(), len(disk), err)
			continue
		}
		if sum := sha256.Sum256(disk); result.Outputs[0].SHA256 != hex.EncodeToString(sum[:]) || result.Input.File != "" {
			t.Errorf("%s: %+v", name, result)
		}
	}
	if got := list(t, dir); got != "disk.raw" {
		t.Errorf("left %s", got)
	}
}

func TestAStalledPipeDoesNotHoldBackAnInterrupt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pw.Close()
	defer pr.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := request(t, dir, "raw")
	r.Input, r.Stdin = "-", pr
	if _, err := Convert(ctx, r); !errors.Is(err, context.DeadlineExceeded) || list(t, dir) != "" {
		t.Errorf("got %v, left %s", err, list(t, dir))
	}
}

func TestBackingFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := makeDisk(t, filepath.Join(dir, "disk.raw"))
	tool(t, dir, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", "top.qcow2")
	tool(t, dir, "qemu-io", "-c", "write -P 7 3M 64k", "top.qcow2")
	copy(disk[3<<20:], bytes.Repeat([]byte{7}, 64<<10))

	r := request(t, dir, "raw")
	r.Input = filepath.Join(dir, "top.qcow2")
	if _, err := Convert(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "out", "web.raw")); err != nil || !bytes.Equal(got, disk) {
		t.Errorf("the chain's disk differs, %v", err)
	}
	r.OutputDir, r.Name, r.Force = dir, "disk", true
	if _, err := Convert(t.Context(), r); err == nil || !strings.Contains(err.Error(), "is a file the input is made of") {
		t.Errorf("over its own backing file: %v", err)
	}
	// A stream may not name files.
	in, err := os.Open(filepath.Join(dir, "top.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r.Input, r.Stdin, r.OutputDir = "-", in, filepath.Join(dir, "stream")
	if _, err := Convert(t.Context(), r); err == nil || !strings.Contains(err.Error(), "backing") || strings.Contains(list(t, dir), "stream") {
		t.Errorf("from a stream: %v, left %s", err, list(t, dir))
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeDisk(t, filepath.Join(dir, "disk.raw"))
	var sent []string
	r := request(t, dir, "qcow2", "raw")
	r.OutputDir = ""
	var scratch string
	r.Send = func(_ context.Context, local string, size int64, sum, name string, progress func(done, total int64)) error {
		data, err := os.ReadFile(local)
		got := sha256.Sum256(data)
		if err != nil || size != int64(len(data)) || sum != hex.EncodeToString(got[:]) {
			t.Errorf("%s: size %d, sum %s, %v", local, size, sum, err)
		}
		sent, scratch = append(sent, name), filepath.Dir(local)
		return nil
	}
	result, err := Convert(t.Context(), r)
	want := "web.qcow2 web.raw web.qcow2.sha256 web.raw.sha256 web.manifest.json"
	if err != nil || strings.Join(sent, " ") != want || !result.Sent {
		t.Fatalf("sent %s, %v", sent, err)
	}
	if list(t, scratch) != "" || list(t, dir) != "disk.raw" {
		t.Errorf("left %s, %s", list(t, scratch), list(t, dir))
	}
	r.Send = func(_ context.Context, local string, _ int64, _, _ string, _ func(done, total int64)) error {
		scratch = filepath.Dir(local)
		return errors.New("connection lost")
	}
	_, err = Convert(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "connection lost\nhint: the files are complete and kept in") || list(t, scratch) == "" {
		t.Errorf("got %v, kept %s", err, list(t, scratch))
	}
	os.RemoveAll(scratch)
}
