//go:build integration

package test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kldload/kldload/internal/machine"
)

// clone is a booted machine that a test reboots.
type clone struct {
	*testing.T
	m *machine.Machine
}

// sh runs a script as root and gives what it says.
func (c clone) sh(script string) string {
	c.Helper()
	var out bytes.Buffer
	cmd := machine.Command{Line: "sudo -n sh -ec '" + script + "' 2>&1", Stdout: &out}
	if status, err := c.m.Run(c.Context(), cmd); err != nil || status != 0 {
		c.Fatalf("%s: status %d, %v\n%s", script, status, err, out.String())
	}
	return strings.TrimSpace(out.String())
}

// restarted runs a script that ends the machine's boot, and waits for the next.
func (c clone) restarted(script string) {
	c.Helper()
	const bootID = "cat /proc/sys/kernel/random/boot_id"
	before := c.sh(bootID)
	ctx, cancel := context.WithTimeout(c.Context(), 15*time.Minute)
	defer cancel()
	brief, done := context.WithTimeout(ctx, 30*time.Second)
	_, _ = c.m.Run(brief, machine.Command{Line: "sudo -n sh -c '" + script + "'"}) // the connection ends with it
	done()
	for ctx.Err() == nil {
		var now bytes.Buffer
		brief, done := context.WithTimeout(ctx, 30*time.Second)
		status, err := c.m.Run(brief, machine.Command{Line: bootID, Stdout: &now})
		done()
		if id := strings.TrimSpace(now.String()); err == nil && status == 0 && id != "" && id != before {
			return
		}
		time.Sleep(3 * time.Second)
	}
	serial, _ := c.m.SaveSerial()
	c.Fatalf("after %s: no new boot; serial log: %s", script, serial)
}

// TestBootEnvironments makes an environment and activates it, cuts the power,
// changes the new one, rolls back and reboots.
func TestBootEnvironments(t *testing.T) {
	dir := folder(t, template{darksite: darksite(t)})
	call{dir: dir}.build(t).succeeded(t)
	m, err := machine.Boot(t.Context(), machine.Config{Image: filepath.Join(dir, "out", "golden.raw"), Name: "be", GrowBy: 1 << 30, Timeout: 15 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c := clone{t, m}
	const power = "echo b >/proc/sysrq-trigger" // a reset: nothing is synced, nothing exported
	hostid := c.sh("hostid; kldload-be create test; kldload-be activate test")
	hostid, _, _ = strings.Cut(hostid, "\n")

	c.restarted(power)
	if got := c.sh("findmnt -no SOURCE /; hostid; zpool history -i rpool | grep -c guid.change"); got != "rpool/ROOT/test\n"+hostid+"\n1" {
		t.Errorf("after the power went: %q, want the environment, host id %s and one change of the GUID", got, hostid)
	}
	c.sh("kldload-be snapshot --hook apt; touch /etc/changed; kldload-be destroy -y default; kldload-be rollback")

	c.restarted("systemctl reboot")
	if got := c.sh("findmnt -no SOURCE /; hostid; ls /etc/changed 2>&1 || :"); !strings.HasPrefix(got, "rpool/ROOT/apt-2") ||
		!strings.Contains(got, hostid) || !strings.Contains(got, "No such file") {
		t.Errorf("after the rollback: %q", got)
	}
	list := c.sh("kldload-be destroy -y test; kldload-be list --json")
	if strings.Count(list, `"name"`) != 1 || !strings.Contains(list, `"running": true, "next": true`) {
		t.Errorf("environments: %s", list)
	}
	if left := c.sh("grep -rl root=ZFS= /boot/efi/loader/entries | wc -l; ls /boot/efi/kldload | wc -l"); left != "1\n2" {
		t.Errorf("entries and kernels on the ESP: %q, want 1 and 2", left)
	}
}
