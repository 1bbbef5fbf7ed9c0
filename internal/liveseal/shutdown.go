package liveseal

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/run"
	"github.com/kldload/kldload/internal/seal"
)

// unitName is a unit of this boot alone, below /run.
const (
	unitName = "kldload-seal.service"
	unitFile = "/run/systemd/system/" + unitName
)

// keptKeys is where the last seal finds which keys may stay.
const keptKeys = memory + "/authorized-keys"

// lateWriters write while they stop and are not ordered after sysinit.target,
// as all other services are: random seeds, login records, leases, counters.
var lateWriters = []string{
	"systemd-random-seed", "systemd-update-utmp", "systemd-networkd", "systemd-resolved", "systemd-timesyncd",
	"systemd-rfkill", "systemd-hwdb-update", "systemd-pstore", "systemd-udevd", "networking", "NetworkManager", "dhcpcd", "auditd",
	"cloud-init-local", "cloud-init", "zfs-zed", "rsyslog",
}

// unit seals once more when all services have stopped and the disk's file
// systems are still mounted: it starts before the former, so it stops after
// them (systemd.unit(5), Before=).
func unit(opts seal.Options, points []string) string {
	stop := memory + "/kexport --quiet seal --files-only --yes"
	if opts.Hostname != "" {
		stop += " --hostname " + opts.Hostname
	}
	if len(opts.Keys) > 0 {
		stop += " --authorized-keys " + keptKeys
	}
	var mounts, before strings.Builder
	for _, p := range append([]string{memory}, points...) {
		mounts.WriteString("RequiresMountsFor=" + quote(p) + "\n")
	}
	for _, name := range lateWriters {
		before.WriteString(" " + name + ".service")
	}
	return `[Unit]
Description=Seal the disk once more when the machine powers off
DefaultDependencies=no
After=local-fs.target
` + mounts.String() + `Before=sysinit.target shutdown.target` + before.String() + `
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=` + memory + `/kexport --version
ExecStop=` + stop + `
StandardOutput=null
StandardError=journal+console
TimeoutStopSec=10min
`
}

// quote makes one word of a unit file's setting (systemd.syntax(7)); percent
// signs are specifiers there.
func quote(s string) string {
	return strings.ReplaceAll(strconv.Quote(s), "%", "%%")
}

// startUnit makes the unit. It is started, and not only loaded: what is not
// active is not stopped at the end.
func startUnit(ctx context.Context, opts seal.Options, points []string) error {
	if err := os.MkdirAll("/run/systemd/system", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(keptKeys, []byte(strings.Join(opts.Keys, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(unitFile, []byte(unit(opts, points)), 0o644); err != nil {
		return err
	}
	for _, args := range [][]string{{"systemctl", "daemon-reload"}, {"systemctl", "start", unitName}} {
		if err := run.Run(ctx, run.Cmd{Doing: "arranging for the last seal", Args: args}); err != nil {
			return err
		}
	}
	return nil
}

// swapOff takes the machine's memory off its disks. What was there stays in
// the blocks.
func swapOff(ctx context.Context) []string {
	b, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return nil // a kernel without swap
	}
	var warnings []string
	for _, name := range swaps(string(b)) {
		if err := run.Run(ctx, run.Cmd{Doing: "ending swap", Args: []string{"swapoff", "--", name}}); err != nil {
			warnings = append(warnings, err.Error())
			continue
		}
		warnings = append(warnings, fmt.Sprintf("swap on %s held memory of this machine, and its blocks still do; a re-packed image has none of them", name))
	}
	return warnings
}

// swaps reads /proc/swaps; swap in compressed memory is on no disk.
func swaps(text string) []string {
	var out []string
	for i, line := range strings.Split(text, "\n") {
		name, _, _ := strings.Cut(line, " ")
		name, _, _ = strings.Cut(name, "\t")
		if i > 0 && name != "" && !strings.HasPrefix(name, "/dev/zram") {
			out = append(out, unescape(name))
		}
	}
	return out
}

// flush brings everything to the disk, and names what the seal did not reach.
// A pool is told apart: sync(2) leaves changes in its intent log, which who
// reads the disk from outside may not play back.
func (r *Report) flush(ctx context.Context) error {
	unix.Sync()
	all, err := mounts()
	if err != nil {
		return err
	}
	for _, pool := range pools(all) {
		if err := run.Run(ctx, run.Cmd{Doing: "writing the pool out", Args: []string{"zpool", "sync", pool}}); err != nil {
			return err
		}
		var out bytes.Buffer
		list := []string{"zfs", "list", "-H", "-r", "-t", "filesystem,snapshot", "-o", "name,type,canmount,mounted", pool}
		if err := run.Run(ctx, run.Cmd{Doing: "looking for copies of the files", Args: list, Stdout: &out}); err != nil {
			return err
		}
		r.Unsealed = append(r.Unsealed, unsealed(pool, out.String())...)
	}
	return nil
}

// pools are those of which datasets are mounted on this machine's tree.
func pools(all []mount) []string {
	var out []string
	for _, m := range all {
		pool, _, _ := strings.Cut(m.source, "/")
		if m.kind == "zfs" && (m.point == "/" || m.onDisk()) && !slices.Contains(out, pool) {
			out = append(out, pool)
		}
	}
	return out
}

// unsealed reads zfs list: file systems that could be mounted and are not, and
// how many snapshots there are.
func unsealed(pool, list string) []string {
	var out []string
	snapshots := 0
	for _, line := range strings.Split(list, "\n") {
		f := strings.Split(line, "\t")
		switch {
		case len(f) != 4:
		case f[1] == "snapshot":
			snapshots++
		case f[2] != "off" && f[3] != "yes":
			out = append(out, "dataset "+f[0]+", which is not mounted")
		}
	}
	if snapshots > 0 {
		out = append(out, fmt.Sprintf("snapshots of %s: %d", pool, snapshots))
	}
	return out
}

// powerOff asks for it in a moment, so that who called us over the network
// sees how we ended.
func powerOff(ctx context.Context) error {
	return run.Run(ctx, run.Cmd{Doing: "powering off", Args: []string{"systemd-run", "--quiet", "--collect", "--on-active=2s",
		"--timer-property=AccuracySec=100ms", "systemctl", "--no-block", "poweroff"}})
}
