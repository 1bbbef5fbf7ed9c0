package seal

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	askedKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUfBBxGdAMZZbDCGvGZtPYnAO5Hxk1MKUXoAk3sBTBr ops@example"
	otherKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBs5vzFD3TfPOAcNXBBTmQYSSOBX6RhBNK4BJZjAUJTz packer"
)

// gone are files that an item must take, one or more of each.
var gone = map[string][]string{
	"machine-id":        {"var/lib/dbus/machine-id"},
	"ssh-host-keys":     {"etc/ssh/ssh_host_rsa_key.pub", "etc/dropbear/dropbear_rsa_host_key", "etc/dropbear/initramfs/dropbear_ecdsa_host_key"},
	"hostname":          {"etc/hostname"},
	"hostid":            {"etc/hostid"},
	"zpool-cache":       {"etc/zfs/zpool.cache", "etc/zfs/zfs-list.cache/rpool"},
	"wireguard-keys":    {"etc/wireguard/wg0.key"},
	"random-seed":       {"var/lib/systemd/random-seed", "boot/efi/loader/random-seed", "var/lib/systemd/credential.secret"},
	"storage-identity":  {"etc/iscsi/initiatorname.iscsi", "etc/nvme/hostnqn", "etc/lvm/devices/system.devices", "etc/multipath/wwids"},
	"dhcp-leases":       {"var/lib/dhclient/dhclient.leases", "var/lib/NetworkManager/secret_key", "var/lib/NetworkManager/x.lease", "var/lib/dhcpcd/duid"},
	"persistent-net":    {"etc/udev/rules.d/70-persistent-net.rules", "etc/udev/rules.d/75-net-description.rules"},
	"bluetooth":         {"var/lib/bluetooth/00:11:22:33:44:55/settings"},
	"passwords":         {"etc/shadow-"},
	"authorized-keys":   nil,
	"domain-membership": {"etc/krb5.keytab", "var/lib/sss/db/cache_x.ldb"},
	"subscriptions":     {"etc/pki/consumer/key.pem", "var/lib/rhsm/facts/facts.json", "etc/sysconfig/rhn/systemid", "var/lib/ubuntu-advantage/private/machine-token.json"},
	"agents":            {"etc/salt/pki/minion/minion.pem", "etc/puppetlabs/puppet/ssl/private_keys/h.pem", "var/lib/fwupd/pki/secret.key", "var/lib/kubelet/pki/kubelet.key"},
	"cloud-init-state":  {"var/lib/cloud/instances/i-1/user-data.txt", "var/lib/cloud/seed/nocloud/user-data", "etc/NetworkManager/system-connections/cloud-init-eth0.nmconnection"},
	"installer-traces":  {"root/anaconda-ks.cfg", "etc/cloud/cloud.cfg.d/99-installer.cfg", "usr/sbin/policy-rc.d"},
	"logs":              {"var/log/wtmp", "var/log/btmp", "var/log/lastlog", "var/log/audit/audit.log", "var/log/installer/syslog", "var/account/pacct"},
	"crash-data":        {"var/crash/127.0.0.1/vmcore", "var/lib/systemd/coredump/core.x", "var/spool/abrt/ccpp/core", "boot/initramfs-6.1kdump.img"},
	"spools":            {"var/mail/root", "var/spool/at/a0000101c2d3e4", "var/spool/postfix/deferred/A/AB12", "var/spool/cron/atjobs/b0000201c2d3e4"},
	"histories": {"root/.bash_history", "home/ops/.zsh_history", "home/ops/.local/share/fish/fish_history", "home/ops/.python_history", "root/.mysql_history",
		"var/lib/postgresql/.psql_history", "root/.sqlite_history", "root/.lesshst", "root/.local/state/lesshst", "root/.node_repl_history", "root/.rediscli_history", "srv/app/.viminfo"},
	"session-traces":  {"root/.ssh/known_hosts", "srv/app/.ssh/known_hosts.old", "home/ops/.sudo_as_admin_successful"},
	"package-caches":  {"var/lib/apt/lists/x_Packages", "var/cache/apt/archives/a.deb", "var/cache/dnf/x.solv", "var/cache/yum/x/y", "var/lib/rpm/__db.001"},
	"temporary-files": {"tmp/script.sh", "tmp/.hidden", "tmp/..odd", "var/tmp/x", "run/x.pid"},
	"swap-files":      {"swapfile", "swap.img"},
	"service-state":   {"var/lib/sudo/lectured/ops", "var/lib/chrony/drift", "var/lib/systemd/timers/stamp-x.timer"},
	"datasources":     nil,
	"template-mark":   {"etc/kldload/image-template"},
	"seal-record":     nil,
}

// lines are what edits make of files.
var lines = []struct{ item, name, before, after string }{
	{"passwords", "etc/shadow", "root:$6$salt$hash:20000:0:99999:7:::\nrhel:!!:19000::::::\nempty::19000::::::\nlocked:!$6$x:1::::::\nplain:*:1::::::\n",
		"root:!:19675:0:99999:7:::\nrhel:!!:19000::::::\nempty:!:19000::::::\nlocked:!:1::::::\nplain:*:1::::::\n"},
	{"passwords", "etc/gshadow", "sudo:$6$x::\nadm:*::\n", "sudo:!::\nadm:*::\n"},
	{"passwords", "etc/passwd", "root:x:0:0::/root:/bin/sh\nold:abJnggxhB/yWI:1:1::/old:/bin/sh\nopen::2:2::/:/bin/sh\napp:x:3:3::/srv/app:/bin/sh\npostgres:*:4:4::/var/lib/postgresql:/bin/sh\n",
		"root:x:0:0::/root:/bin/sh\nold:*:1:1::/old:/bin/sh\nopen:*:2:2::/:/bin/sh\napp:x:3:3::/srv/app:/bin/sh\npostgres:*:4:4::/var/lib/postgresql:/bin/sh\n"},
	{"passwords", "etc/group", "a:x:1:\nb::2:\nc:hash:3:ops\n", "a:x:1:\nb::2:\nc:!:3:ops\n"},
	{"passwords", "etc/security/opasswd", "ops:1000:1:$6$old\n", ""},
	{"authorized-keys", "root/.ssh/authorized_keys", "# remark\n" + otherKey + "\nno-pty,command=\"a b\" " + otherKey + "\ngarbage\n", "# remark\n"},
	{"authorized-keys", "home/ops/.ssh/authorized_keys", askedKey + "\nrestrict " + askedKey + " laptop\n" + otherKey, askedKey + "\nrestrict " + askedKey + " laptop\n"},
	{"hostname", "etc/machine-info", "PRETTY_HOSTNAME=Builder\nDEPLOYMENT=production\n", "DEPLOYMENT=production\n"},
	{"hostname", "etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=builder\n", "NETWORKING=yes\n"},
	{"persistent-net", "etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=eth0\n  HWADDR=52:54:00:00:00:01\nUUID=x\nBOOTPROTO=dhcp\n", "DEVICE=eth0\nBOOTPROTO=dhcp\n"},
	{"persistent-net", "etc/NetworkManager/system-connections/lan.nmconnection", "[ethernet]\nmac-address=52:54:00:00:00:01\n", "[ethernet]\n"},
	{"swap-files", "etc/fstab", "UUID=x / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n/dev/vdb none swap sw 0 0\n", "UUID=x / ext4 defaults 0 1\n/dev/vdb none swap sw 0 0\n"},
	{"service-state", "etc/adjtime", "-12.5 1700000000 0.0\n1700000000\nLOCAL\n", "0.0 0 0.0\n0\nLOCAL\n"},
	{"subscriptions", "etc/popularity-contest.conf", "PARTICIPATE=yes\nMY_HOSTID=\"abc\"\n", "PARTICIPATE=yes\n"},
}

// stays is what people put there on purpose, and what the system needs.
var stays = []string{
	"etc/ssh/sshd_config", "etc/wireguard/wg1.conf", "var/spool/cron/crontabs/root", "etc/netplan/01-mine.yaml", "root/.bashrc", "root/.ssh/id_ed25519",
	"home/ops/.ssh/config", "var/lib/private/app/data", "var/lib/snapd/state.json", "etc/cloud/cloud.cfg.d/10-mine.cfg", "usr/share/doc/x", "var/lib/dpkg/status",
	"var/lib/rpm/rpmdb.sqlite", "var/lib/dnf/history.sqlite", "etc/salt/minion", "var/spool/at/.SEQ", "etc/yum.repos.d/mine.repo", "var/cache/app/keep",
}

func plantAll(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name, text string) {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, names := range gone {
		for _, name := range names {
			put(name, "x")
		}
	}
	for _, l := range lines {
		put(l.name, l.before)
	}
	for _, name := range stays {
		put(name, "on purpose")
	}
	put("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	return dir
}

func TestEachItem(t *testing.T) {
	dir := plantAll(t)
	o := opts
	o.Keys = []string{"not a key", askedKey}
	reports, err := Check(dirFS(t, dir), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reports {
		names, known := gone[r.Item]
		if !known {
			t.Errorf("item %s has no planted file", r.Item)
		}
		for _, name := range names {
			if !slices.ContainsFunc(r.Violations, func(v Violation) bool { return v.Path == name || strings.HasPrefix(name, v.Path+"/") }) {
				t.Errorf("%s does not find %s: %v", r.Item, name, r.Violations)
			}
		}
		for _, l := range lines {
			if l.item == r.Item && !slices.ContainsFunc(r.Violations, func(v Violation) bool { return v.Path == l.name }) {
				t.Errorf("%s does not find %s", r.Item, l.name)
			}
		}
	}
	if _, err := Apply(dir, o); err != nil {
		t.Fatal(err)
	}
	if left := check(t, dir, o); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for item, names := range gone {
		for _, name := range names {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%s: %s is still there", item, name)
			}
		}
	}
	for _, l := range lines {
		if got, err := os.ReadFile(filepath.Join(dir, l.name)); err != nil || string(got) != l.after {
			t.Errorf("%s: got %q, %v: want %q", l.name, got, err, l.after)
		}
	}
	for _, name := range stays {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != "on purpose" {
			t.Errorf("%s did not stay: %q, %v", name, got, err)
		}
	}
}

// TestRunningMachine: what it runs on stays.
func TestRunningMachine(t *testing.T) {
	dir := plantAll(t)
	o := opts
	o.Live = true
	if _, err := Apply(dir, o); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "run/x.pid")); err != nil {
		t.Error(err)
	}
}

// TestItemsDoNotMeet: what one item writes or edits, no other touches; a plan
// would know one of the two.
func TestItemsDoNotMeet(t *testing.T) {
	o := opts
	o.Hostname = "web"
	made := map[string]string{}
	for _, i := range Items(o) {
		if i.Name == "" || i.Why == "" || len(i.What()) == 0 {
			t.Errorf("item %q lacks a name, a reason or an act", i.Name)
		}
		for name := range i.Write {
			if made[name] != "" {
				t.Errorf("%s is of %s and %s", name, made[name], i.Name)
			}
			made[name] = i.Name
		}
		for _, e := range i.Edit {
			if made[e.Pattern] != "" {
				t.Errorf("%s is of %s and %s", e.Pattern, made[e.Pattern], i.Name)
			}
			made[e.Pattern] = i.Name
		}
	}
	for _, i := range Items(o) {
		for name, by := range made {
			for _, pattern := range i.Remove {
				for up := name; up != "."; up = path.Dir(up) {
					if ok, err := path.Match(pattern, up); ok || err != nil {
						t.Errorf("%s writes %s, which %s removes (%v)", by, name, i.Name, err)
					}
				}
			}
			for _, dir := range i.RemoveIn {
				if strings.HasPrefix(name, dir+"/") {
					t.Errorf("%s writes %s, which %s removes", by, name, i.Name)
				}
			}
		}
	}
}

// TestForeignTree: nothing an image holds makes a plan fail or grow.
func TestForeignTree(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd": strings.Repeat("x", 70000) + "\n:::::relative\na:x:1:1::/../../[home*\\:/bin/sh\nb:x:1:1::/\x00:\n\xff:x:0:0::/etc/passwd/deep:/\n\xff:x:0:0::/\xff\xfe:/\n",
		"etc/shadow": ":::\n\x00\n::\r\n",
	} {
		if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{`[home*\`, "tmp/\xff/\xfe", "var/log/\xff/deep", "home/\xff"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "x"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, `[home*\/.bash_history`), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(dir, opts); err != nil {
		t.Fatal(err)
	}
	if left := check(t, dir, opts); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, name := range []string{"tmp/\xff", "var/log/\xff"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%q is still there", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, `[home*\/.bash_history`)); err == nil {
		t.Error("the history in a home with an odd name is still there")
	}
}
