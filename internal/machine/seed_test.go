package machine

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kldload/kldload/internal/run"
)

// tool runs a foreign judge; that it is missing is a failure too.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run.Output(context.Background(), run.Cmd{Doing: "judging", Args: args})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func testSeed(t *testing.T) Seed {
	t.Helper()
	signer, private, err := newKey()
	if err != nil || !bytes.HasPrefix(private, []byte("-----BEGIN OPENSSH PRIVATE KEY-----")) {
		t.Fatalf("key: %v\n%s", err, private)
	}
	return Seed{Name: "web1", InstanceID: instanceID("web1"), User: "kldload", Key: signer.PublicKey()}
}

func TestSeedVolumeIsWhatCloudInitLooksFor(t *testing.T) {
	seed := testSeed(t)
	seed.NetworkConfig = []byte("version: 2\n")
	img := filepath.Join(t.TempDir(), "seed.img")
	if err := seed.write(img, time.Unix(1700000000, 0)); err != nil {
		t.Fatal(err)
	}
	tool(t, "/sbin/fsck.vfat", "-n", img)
	if label := tool(t, "/sbin/blkid", "-p", "-o", "export", img); !strings.Contains(label, "LABEL=CIDATA\n") || !strings.Contains(label, "TYPE=vfat\n") {
		t.Errorf("blkid says %q", label)
	}
	for name, want := range map[string]string{"meta-data": `local-hostname: "web1"`, "user-data": "sudo: \"ALL=(ALL) NOPASSWD:ALL\"", "network-config": "version: 2"} {
		if got := tool(t, "mtype", "-i", img, "::"+name); !strings.Contains(got, want) {
			t.Errorf("%s: %q lacks %q", name, got, want)
		}
	}
}

func TestSeedTakesUserDataAsGiven(t *testing.T) {
	seed := testSeed(t)
	seed.UserData = bytes.Repeat([]byte("#cloud-config\n"), 200_000) // larger than the slack
	img := filepath.Join(t.TempDir(), "seed.img")
	if err := seed.write(img, time.Unix(1700000000, 0)); err != nil {
		t.Fatal(err)
	}
	if got := tool(t, "mtype", "-i", img, "::user-data"); got != string(seed.UserData) {
		t.Errorf("got %d bytes, want %d", len(got), len(seed.UserData))
	}
}

func TestInstanceIDsDiffer(t *testing.T) {
	if a, b := instanceID("x"), instanceID("x"); a == b {
		t.Errorf("%q twice", a)
	}
}
