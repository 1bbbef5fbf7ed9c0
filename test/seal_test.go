//go:build integration

package test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kldload/kldload/internal/machine"
)

// Text that is planted in the machine and must not be in what is made of it.
const (
	deletedText = "kldload-test-deleted-secret-5e1f0c"
	historyText = "kldload-test-history-9b27aa"
)

// plantScript gives a machine a life of its own. What is deleted lies in a block
// that does not compress, so that a search of the raw disk finds it.
const plantScript = `useradd -m -s /bin/bash ops
echo ops:correct-horse | chpasswd
echo ` + historyText + ` | tee /root/.bash_history >/home/ops/.bash_history
chown ops: /home/ops/.bash_history
mkdir -p /root/.ssh
echo ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake build >/root/.ssh/authorized_keys
logger ` + historyText + `
touch /etc/kldload/image-template
{ head -c 60000 /dev/urandom; echo ` + deletedText + `; head -c 60000 /dev/urandom; } >/root/secret
zpool sync
rm /root/secret
mkdir /var/tmp/many
cd /var/tmp/many
seq 3000 | xargs touch
zpool sync`

// killScript kills a seal when some of its items are done and others are not.
const killScript = `/tmp/kexport seal >/dev/null & pid=$!
while [ -e /var/lib/cloud/instances ]; do :; done
kill -9 $pid
wait $pid || true
ls /var/tmp/many | wc -l`

// identityScript says under which names a machine is known, one a line.
const identityScript = `echo "machine-id $(cat /etc/machine-id)"
for key in /etc/ssh/ssh_host_*_key.pub; do echo "$(basename "$key") $(cut -d " " -f 2 "$key")"; done
echo "hostid $(hostid)"
echo "pool $(zpool get -Ho value guid rpool)"
echo "dhcp $(sed -n s/^CLIENTID=//p /run/systemd/netif/leases/*)"
echo "wireguard $(cat /etc/wireguard/public.key)"
[ "$(wg pubkey </etc/wireguard/private.key)" = "$(cat /etc/wireguard/public.key)" ]
[ "$(stat -c %a /etc/wireguard/private.key)" = 600 ]
`

// identities are what identityScript must tell of, host keys by type.
var identities = []string{"machine-id", "ssh_host_ed25519_key.pub", "ssh_host_rsa_key.pub", "ssh_host_ecdsa_key.pub", "hostid", "pool", "dhcp", "wireguard"}

// TestSealARunningMachine lives in a machine, seals it, twice, the first time
// killed half-way, writes its disk anew and starts two clones of that together.
func TestSealARunningMachine(t *testing.T) {
	dir := folder(t, template{darksite: darksite(t), blocks: []string{
		`provisioner "file" {
    source      = "` + binary + `"
    destination = "/tmp/kexport"
  }`, shell("seal.sh"),
	}, scripts: map[string]string{"seal.sh": "#!/bin/sh -e\nchmod 755 /tmp/kexport\ntouch /var/log/trace /run/trace\n/tmp/kexport seal\ntest ! -e /var/log/trace && test -e /run/trace && test -e \"$0\"\n"}})
	call{dir: dir}.build(t).succeeded(t)
	sealed := filepath.Join(dir, "sealed.raw")
	former := sealMachine(t, filepath.Join(dir, "out", "golden.raw"), sealed)
	call{args: []string{"kexport", "verify", sealed}}.run(t).succeeded(t)
	if !holds(t, sealed, deletedText) {
		t.Logf("%s has no trace of the deleted file: the test would find nothing in its copy", sealed)
	}
	clones := bootTogether(t, repacked(t, dir, sealed))
	for _, what := range identities {
		one, two, old := clones[0][what], clones[1][what], former[what]
		if one == "" || two == "" || old == "" || one == two || one == old || two == old {
			t.Errorf("%s: %q and %q of clones of a machine with %q", what, one, two, old)
		}
	}
}

// repacked writes the disk anew and looks at what came of it.
func repacked(t *testing.T, dir, sealed string) string {
	t.Helper()
	call{dir: dir, args: []string{"kexport", "seal", "--input", sealed, "--format", "raw,qcow2", "--output-dir", "packed", "--name", "packed"}}.run(t).succeeded(t)
	raw, image := filepath.Join(dir, "packed", "packed.raw"), filepath.Join(dir, "packed", "packed.qcow2")
	for _, text := range []string{deletedText, historyText} {
		if holds(t, raw, text) {
			t.Errorf("%s holds %q", raw, text)
		}
	}
	judgePool(t, raw)
	call{args: []string{"kexport", "verify", image}}.run(t).succeeded(t)
	return image
}

// sealMachine starts a machine from an image, seals it from inside, and writes
// its disk to a file. It gives the identity that the machine had.
func sealMachine(t *testing.T, image, sealed string) map[string]string {
	t.Helper()
	m, err := machine.Boot(t.Context(), machine.Config{Image: image, Name: "template", Timeout: 15 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.WaitCloudInit(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := clone{t, m}
	c.upload(binary, "/tmp/kexport")
	c.sh(plantScript)
	former := fields(c.sh(identityScript))
	if left := c.sh(killScript); left == "0" {
		t.Errorf("the first seal was over before it was killed")
	}
	// The first run took /tmp/kexport with the rest of /tmp.
	report := c.sh("/run/kldload-seal/kexport seal --poweroff")
	for _, want := range []string{"machine-id          done ", "hostid              already clean", "not sealed: snapshots of rpool: ", "\nsealed; the machine powers off now"} {
		if !strings.Contains(report, want) {
			t.Errorf("the report does not say %q:\n%s", want, report)
		}
	}
	select {
	case <-m.Exited():
	case <-time.After(5 * time.Minute):
		serial, _ := m.SaveSerial()
		t.Fatalf("the machine is still on; serial log: %s", serial)
	}
	call{dir: m.Dir(), args: []string{"kexport", "convert", "--format", "raw", "--checksum", "none", "--input", "disk.qcow2", "--output", sealed}}.run(t).succeeded(t)
	return former
}

// upload puts a program into the machine.
func (c clone) upload(file, to string) {
	c.Helper()
	f, err := os.Open(file)
	if err != nil {
		c.Fatal(err)
	}
	defer f.Close()
	cmd := machine.Command{Line: "cat >" + to + " && chmod 755 " + to, Stdin: f}
	if status, err := c.m.Run(c.Context(), cmd); err != nil || status != 0 {
		c.Fatalf("uploading %s: status %d, %v", to, status, err)
	}
}

// bootTogether starts two clones at the same time and gives their identities.
// One is put through all smoke checks.
func bootTogether(t *testing.T, image string) [2]map[string]string {
	t.Helper()
	var out [2]map[string]string
	var errs [2]error
	var reports [2]machine.Report
	identity := machine.Check{Name: "identity", Script: identityScript}
	var both sync.WaitGroup
	for i, checks := range [][]machine.Check{append(machine.DefaultChecks(), identity), {identity}} {
		both.Go(func() {
			cfg := machine.Config{Image: image, Name: []string{"one", "two"}[i], GrowBy: 1 << 30, Memory: 1024, CPUs: 1, Timeout: 20 * time.Minute}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
			defer cancel()
			reports[i], errs[i] = machine.Test(ctx, cfg, checks)
		})
	}
	both.Wait()
	for i, r := range reports {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		t.Logf("%s: %s, ready after %.0f s", r.Name, r.Summary(), r.ReadySeconds)
		for _, c := range r.Checks {
			if c.Status == machine.Fail {
				t.Errorf("%s: %s: %s", r.Name, c.Name, c.Output)
			}
		}
		out[i] = fields(r.Checks[len(r.Checks)-1].Output)
	}
	return out
}

// fields reads lines of a name and a value.
func fields(text string) map[string]string {
	out := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		name, value, _ := strings.Cut(line, " ")
		out[name] = value
	}
	return out
}

// holds tells whether a file has the text anywhere.
func holds(t *testing.T, file, text string) bool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(b, []byte(text))
}
