package seal

import (
	"strconv"
	"strings"
	"time"
)

// Datasources is the order in which cloud-init looks for its data; the first
// that answers wins.
var Datasources = []string{"NoCloud", "ConfigDrive", "OpenStack", "Ec2", "GCE", "Azure", "OVF", "AltCloud", "CloudStack", "None"}

// DatasourceFile is where the list is written (cloud-init's cloud.cfg.d).
const DatasourceFile = "etc/cloud/cloud.cfg.d/99-datasource.cfg"

// RecordFile says that the image is sealed.
const RecordFile = "etc/kldload/sealed"

// Items is the one list: what is taken out, and why.
func Items(opts Options) []Item {
	return append(identityItems(opts), append(traceItems(), configItems(opts)...)...)
}

// identityItems are what would make two machines one.
func identityItems(opts Options) []Item {
	hostname := Item{Name: "hostname", Why: "a machine's name comes from its deployment", Remove: []string{"etc/hostname"}}
	if opts.Hostname != "" {
		hostname = Item{Name: "hostname", Why: "the default name the template asked for", Write: map[string]string{"etc/hostname": opts.Hostname + "\n"}}
	}
	return []Item{
		{Name: "machine-id", Why: "systemd, DHCP and journald tell machines apart by it; empty means: make one at first boot (machine-id(5))",
			Remove: []string{"var/lib/dbus/machine-id"}, Write: map[string]string{"etc/machine-id": ""}},
		{Name: "ssh-host-keys", Why: "shared host keys let any clone pose as any other",
			Remove: []string{"etc/ssh/ssh_host_*"}},
		hostname,
		{Name: "hostid", Why: "ZFS tells the machines that may import a pool by it",
			Remove: []string{"etc/hostid"}},
		{Name: "zpool-cache", Why: "it lists the pools of another machine, which this one would import",
			Remove: []string{"etc/zfs/zpool.cache", "etc/zfs/zpool.cache.tmp", "etc/zfs/zfs-list.cache/*"}},
		{Name: "wireguard-keys", Why: "clones must not share a tunnel's identity",
			Remove: []string{"etc/wireguard/*key*"}, RemoveIf: map[string]string{"etc/wireguard/*": "PrivateKey"}},
		{Name: "dhcp-leases", Why: "a lease belongs to one machine's address",
			RemoveIn: []string{"var/lib/dhcp", "var/lib/dhcpcd", "var/lib/NetworkManager", "var/lib/systemd/network"}},
		{Name: "random-seed", Why: "a shared seed makes equal keys",
			Remove: []string{"var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "var/lib/systemd/credential.secret"}},
		{Name: "iscsi-initiator", Why: "initiator names are unique per machine",
			Remove: []string{"etc/iscsi/initiatorname.iscsi"}},
		{Name: "persistent-net", Why: "rules that name one machine's network cards",
			Remove: []string{"etc/udev/rules.d/70-persistent-net.rules", "etc/udev/rules.d/75-net-description.rules"}},
		{Name: "passwords", Why: "nobody logs in with a password that an image carries",
			Remove: []string{"etc/shadow-", "etc/gshadow-", "etc/passwd-", "etc/group-", "etc/subuid-", "etc/subgid-"},
			Edit:   map[string]func(string) string{"etc/shadow": shadowLine(opts.Epoch), "etc/gshadow": lockField}},
	}
}

// traceItems are what the build or a former life left behind.
func traceItems() []Item {
	return []Item{
		{Name: "cloud-init-state", Why: "cloud-init runs as on a machine it never saw",
			Remove: []string{"var/lib/cloud/*", "etc/netplan/50-cloud-init.yaml", "etc/network/interfaces.d/50-cloud-init",
				"etc/ssh/sshd_config.d/50-cloud-init.conf", "etc/sudoers.d/90-cloud-init-users", "etc/cloud/cloud-init.disabled"}},
		{Name: "logs", Why: "the journal, login records and logs are of another machine",
			Remove: []string{"var/log/journal/*", "var/log/installer"}, RemoveIn: []string{"var/log"}},
		{Name: "histories", Why: "shells and editors keep what was typed, passwords too",
			Remove: []string{"~/.*_history", "~/.viminfo", "~/.lesshst", "~/.wget-hsts", "~/.rnd", "~/.ssh/known_hosts*", "~/.local/state/nano"}},
		{Name: "package-caches", Why: "a mirror has them, an image does not need them",
			Remove: []string{"var/lib/apt/lists/*", "var/cache/apt/*", "var/lib/dpkg/*-old", "var/lib/dpkg/diversions-old",
				"var/cache/debconf/*-old", "var/cache/ldconfig/aux-cache", "var/cache/dnf/*", "var/cache/fontconfig/*"},
			RemoveIn: []string{"var/cache/man"}},
		{Name: "temporary-files", Why: "scripts and uploads end here",
			Remove: []string{"tmp/*", "tmp/.[!.]*", "var/tmp/*", "var/tmp/.[!.]*", "run/*", "var/crash/*"}},
		{Name: "service-state", Why: "counters, stamps and drifts of another machine",
			RemoveIn: []string{"var/lib/systemd/timers", "var/lib/systemd/coredump", "var/lib/systemd/rfkill", "var/lib/systemd/backlight",
				"var/lib/chrony", "var/lib/logrotate", "var/lib/sudo", "var/lib/private"},
			Remove: []string{"etc/.pwd.lock", "etc/.updated", "var/.updated"}},
		{Name: "installer-traces", Why: "answers files hold passwords",
			Remove: []string{"root/answers*", "root/anaconda-ks.cfg", "root/original-ks.cfg", "etc/kldload/answers*", "etc/kldload/install-manifest*",
				"usr/sbin/policy-rc.d"}},
	}
}

// configItems make the image find its data wherever it starts.
func configItems(opts Options) []Item {
	record := "sealed by kldload\n"
	if opts.Hostname != "" {
		record += "hostname " + opts.Hostname + "\n"
	}
	return []Item{
		{Name: "datasources", Why: "cloud-init finds its data on every platform we publish to",
			Write: map[string]string{DatasourceFile: "# written by kldload seal: the first datasource that answers wins\ndatasource_list: [ " +
				strings.Join(Datasources, ", ") + " ]\n"}},
		{Name: "seal-record", Why: "tools can tell a template from a machine",
			Write: map[string]string{RecordFile: record}},
	}
}

// lockField makes the second field of a shadow line no password: "!" alone,
// so that no hash stays (shadow(5)). Locked fields are kept.
func lockField(line string) string {
	f := strings.Split(line, ":")
	if len(f) > 1 && f[1] != "!" && f[1] != "*" && f[1] != "!*" {
		f[1] = "!"
	}
	return strings.Join(f, ":")
}

// shadowLine also bounds the day of the last change, which tools that know no
// SOURCE_DATE_EPOCH set to the day of the build.
func shadowLine(epoch time.Time) func(string) string {
	last := epoch.Unix() / 86400
	return func(line string) string {
		f := strings.Split(lockField(line), ":")
		if len(f) > 2 && last > 0 {
			if day, err := strconv.ParseInt(f[2], 10, 64); err == nil && day > last {
				f[2] = strconv.FormatInt(last, 10)
			}
		}
		return strings.Join(f, ":")
	}
}
