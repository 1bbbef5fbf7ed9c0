//go:build integration

package test

// everything is a template that uses what a tree can hold: accounts, packages
// from the darksite, units, setuid, capabilities, ACLs, attributes, links,
// odd names and times; and that leaves every kind of dirt for the seal.
func everything(site string) template {
	return template{
		darksite: site,
		source: `timezone = "Europe/Berlin"
  users {
    name                = "ops"
    sudo                = true
    groups              = ["adm"]
    ssh_authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000000000000000000 ops@example"]
  }`,
		blocks: []string{
			`provisioner "file" {
    content     = "[Unit]\nDescription=hello\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
    destination = "/etc/systemd/system/hello.service"
  }`,
			shell("make.sh"), shell("dirt.sh"),
			`post-processor "checksum" {
    checksum_types = ["sha256"]
    output         = "out/golden.{{.ChecksumType}}sum"
  }`,
		},
		scripts: map[string]string{"make.sh": makeScript, "dirt.sh": dirtScript},
	}
}

const makeScript = `#!/bin/bash
set -eu
apt-get install -y -q htop
systemctl enable hello.service
useradd --system --home-dir /nonexistent service
mkdir -p /opt/probe && cd /opt/probe
install -m 4755 /bin/true suid
install -m 2755 -g adm /bin/true sgid
install -m 755 /bin/true netcap
setcap cap_net_raw,cap_net_admin+ep netcap
echo text >plain
ln plain hard
ln -s ../probe/plain soft
ln -s /no/where dangling
mkfifo pipe
install -d -m 1777 sticky
install -o ops -g ops -m 600 plain of-ops
install -o 65534 -g 65534 plain of-nobody
touch "a name
of two lines" "ünïcode" "$(printf 'x%.0s' {1..255})"
truncate -s 5M sparse; echo end >>sparse
touch -d 2040-01-01 future; touch -d "1971-01-01 UTC" past; touch -h -d 2041-01-01 soft
python3 - <<'P'
import os, struct
acl = lambda *e: struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *x) for x in e)
no = 0xffffffff
entries = [(1, 6, no), (2, 6, 1000), (4, 4, no), (0x10, 6, no), (0x20, 0, no)]
open("acl", "w").close()
os.setxattr("acl", "system.posix_acl_access", acl(*entries))
os.mkdir("acl-dir")
os.setxattr("acl-dir", "system.posix_acl_default", acl(*entries))
os.setxattr("plain", "user.note", b"kept")
os.setxattr("plain", "user.big", b"v" * 2000)
P
update-initramfs -u
`

const dirtScript = `#!/bin/bash
set -eu
ssh-keygen -A
systemd-machine-id-setup
echo root:secret | chpasswd
echo ops:secret | chpasswd
echo buildhost >/etc/hostname
echo dirt | tee /tmp/dirt /var/tmp/dirt /run/dirt /var/log/dirt.log /root/.bash_history /home/ops/.bash_history >/dev/null
mkdir -p /var/lib/cloud/instances/i /var/log/journal/x /var/lib/dhcp
echo dirt | tee /var/lib/cloud/instances/i/x /var/log/journal/x/system.journal /var/lib/dhcp/lease /var/lib/systemd/random-seed >/dev/null
cat /proc/sys/kernel/random/uuid >/var/lib/dbus/machine-id
`
