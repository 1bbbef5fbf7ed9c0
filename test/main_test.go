//go:build integration

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Set up once for all tests.
var (
	binary string // our own copy: /proc/*/exe tells whose processes are left
	caches string // a cache folder with the shared trees and its own work folder
	public string // a folder that every user may enter
)

func TestMain(m *testing.M) {
	code, err := setUp(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error: preparing the tests:", err)
		code = 1
	}
	os.Exit(code)
}

func setUp(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "kldload-test-*")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1, err
	}
	public, binary = dir, filepath.Join(dir, "kldload")
	if err := os.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data")); err != nil { // the key that signs
		return 1, err
	}
	if err := makeBinary(); err != nil {
		return 1, err
	}
	if caches, err = shareTrees(); err != nil {
		return 1, err
	}
	defer os.RemoveAll(caches)
	return m.Run(), nil
}

func makeBinary() error {
	if given := os.Getenv("KLDLOAD_BIN"); given != "" {
		out, err := exec.Command("cp", "--", given, binary).CombinedOutput()
		if err != nil {
			return fmt.Errorf("copying KLDLOAD_BIN: %w: %s", err, out)
		}
		return nil
	}
	out, err := exec.Command("go", "build", "-o", binary, "github.com/kldload/kldload/cmd/kldload").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// shareTrees makes a cache folder inside the shared one, on its file system,
// that has its trees.
func shareTrees() (string, error) {
	dir := os.Getenv("KLDLOAD_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(base, "kldload")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(dir, "trees"), 0o755); err != nil {
		return "", err
	}
	own, err := os.MkdirTemp(dir, "test-*")
	if err != nil {
		return "", err
	}
	return own, os.Symlink("../trees", filepath.Join(own, "trees"))
}

// darksite is the offline mirror that the images are made from.
func darksite(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("KLDLOAD_DARKSITE")
	if dir == "" {
		t.Fatal("KLDLOAD_DARKSITE is not set\nhint: kldload darksite create --distro debian --release bookworm --profile core --output DIR, then KLDLOAD_DARKSITE=DIR")
	}
	if _, err := os.Stat(filepath.Join(dir, "darksite.lock")); err != nil {
		t.Fatalf("KLDLOAD_DARKSITE: %v", err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// needRoot fails a test that must act as the host's root.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts an image and makes a user: run it as root")
	}
}
