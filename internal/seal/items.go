package seal

import (
	"slices"
	"strings"
)

// Datasources is the order in which cloud-init looks for its data; the first
// that answers wins.
var Datasources = []string{"NoCloud", "ConfigDrive", "OpenStack", "Ec2", "GCE", "Azure", "OVF", "AltCloud", "CloudStack", "None"}

// DatasourceFile is where the list is written (cloud-init's cloud.cfg.d).
const DatasourceFile = "etc/cloud/cloud.cfg.d/99-datasource.cfg"

// RecordFile says that the image is sealed. It is the last to be written.
const RecordFile = "etc/kldload/sealed"

// Items is the one list: what is taken out, and why. It draws on systemd's
// "Safely Building Images", virt-sysprep's operations, cloud-init clean and
// what cloud images of Debian and Red Hat leave out. Settings that somebody
// made on purpose are in no item.
func Items(opts Options) []Item {
	return slices.Concat(identityItems(opts), networkItems(), accessItems(opts), agentItems(), traceItems(opts), configItems(opts))
}

// identityItems are what would make two machines one.
func identityItems(opts Options) []Item {
	hostname := Item{Name: "hostname", Why: "a machine's name comes from its deployment", Remove: []string{"etc/hostname"}}
	if opts.Hostname != "" {
		hostname = Item{Name: "hostname", Why: "the default name the template asked for", Write: map[string]string{"etc/hostname": opts.Hostname + "\n"}}
	}
	hostname.Edit = []Edit{
		{"etc/machine-info", "no `PRETTY_HOSTNAME` and `KERNEL_INSTALL_MACHINE_ID`", without("PRETTY_HOSTNAME=", "KERNEL_INSTALL_MACHINE_ID=")},
		{"etc/sysconfig/network", "no `HOSTNAME`", without("HOSTNAME=")},
	}
	return []Item{
		{Name: "machine-id", Why: "systemd, DHCP and journald tell machines apart by it; empty means: make one at first boot (machine-id(5))",
			Remove: []string{"var/lib/dbus/machine-id"}, Write: map[string]string{"etc/machine-id": ""}},
		{Name: "ssh-host-keys", Why: "shared host keys let any clone pose as any other",
			Remove: []string{"etc/ssh/ssh_host_*", "etc/dropbear/*host_key", "etc/dropbear/initramfs/*host_key", "etc/dropbear-initramfs/*host_key"}},
		hostname,
		{Name: "hostid", Why: "ZFS tells the machines that may import a pool by it",
			Remove: []string{"etc/hostid"}},
		{Name: "zpool-cache", Why: "it lists the pools of another machine, which this one would import",
			Remove: []string{"etc/zfs/zpool.cache", "etc/zfs/zpool.cache.tmp", "etc/zfs/zfs-list.cache/*"}},
		{Name: "wireguard-keys", Why: "clones must not share a tunnel's identity",
			Remove: []string{"etc/wireguard/*key*"}, RemoveIf: map[string]string{"etc/wireguard/*": "PrivateKey"}},
		{Name: "random-seed", Why: "a shared seed makes equal keys (systemd: Safely Building Images)",
			Remove: []string{"var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "var/lib/systemd/credential.secret",
				"var/lib/systemd/tpm2-srk-public-key*", "boot/loader/random-seed", "boot/efi/loader/random-seed", "efi/loader/random-seed",
				"var/lib/postfix/prng_exch"}},
		{Name: "storage-identity", Why: "names of initiators are unique per machine, and so are the disks it knows",
			Remove: []string{"etc/iscsi/initiatorname.iscsi", "etc/nvme/hostnqn", "etc/nvme/hostid", "etc/lvm/devices/system.devices",
				"etc/lvm/archive/*", "etc/lvm/backup/*", "etc/lvm/cache/.cache", "etc/multipath/bindings", "etc/multipath/wwids",
				"etc/blkid/blkid.tab*"}},
	}
}

// networkItems are what ties an image to the cards and leases of a machine.
func networkItems() []Item {
	return []Item{
		{Name: "dhcp-leases", Why: "a lease, and the id it was asked for with, belong to one machine",
			Remove: []string{"etc/dhcpcd.duid", "var/lib/misc/dnsmasq.leases"},
			RemoveIn: []string{"var/lib/dhcp", "var/lib/dhclient", "var/lib/dhcpcd", "var/lib/dhcpcd5", "var/lib/dhcpd", "var/lib/NetworkManager",
				"var/lib/systemd/network", "var/lib/private/systemd"}},
		{Name: "persistent-net", Why: "names and addresses of one machine's network cards",
			Remove: []string{"etc/udev/rules.d/70-persistent-net.rules", "etc/udev/rules.d/75-net-description.rules",
				"etc/udev/rules.d/70-persistent-cd.rules", "etc/udev/rules.d/85-persistent-net-cloud-init.rules"},
			Edit: []Edit{
				{"etc/sysconfig/network-scripts/ifcfg-*", "no `HWADDR` and `UUID`", without("HWADDR=", "UUID=")},
				{"etc/NetworkManager/system-connections/*", "no `mac-address`", without("mac-address=")},
			}},
		{Name: "bluetooth", Why: "pairings hold the keys of one machine's adapter",
			Remove: []string{"var/lib/bluetooth/*"}},
	}
}

// accessItems are who may log in.
func accessItems(opts Options) []Item {
	return []Item{
		{Name: "passwords", Why: "nobody logs in with a password that an image carries",
			Remove: []string{"etc/shadow-", "etc/gshadow-", "etc/passwd-", "etc/group-", "etc/subuid-", "etc/subgid-"},
			Edit: []Edit{
				{"etc/shadow", "no password, root's neither; the day of its last change is at most the build's", shadowLine(opts.Epoch)},
				{"etc/gshadow", "no password", secretField},
				{"etc/passwd", "no password, and none that is empty", passwdLine},
				{"etc/group", "no password", groupLine},
				{"etc/security/opasswd", "no old passwords", nothing},
			}},
		{Name: "authorized-keys", Why: "a build's throw-away keys open every machine made from the image; those the template gives its users stay",
			Edit: []Edit{{"~/.ssh/authorized_keys*", "only the keys that were asked for", keysOf(opts.Keys)}}},
		{Name: "domain-membership", Why: "a machine joins a domain with an account of its own",
			Remove:   []string{"etc/krb5.keytab", "var/lib/samba/private/secrets.tdb", "var/lib/samba/private/secrets.ldb"},
			RemoveIn: []string{"var/lib/sss/db", "var/lib/sss/mc", "var/lib/sss/secrets"}},
	}
}

// agentItems are the names under which services know a machine.
func agentItems() []Item {
	return []Item{
		{Name: "subscriptions", Why: "a subscription is of one machine",
			Remove: []string{"etc/pki/consumer/*", "etc/pki/entitlement/*", "etc/sysconfig/rhn/systemid", "etc/sysconfig/rhn/osad-auth.conf",
				"var/lib/yum/uuid", "var/lib/dnf/repos/*/countme", "etc/insights-client/machine-id", "etc/insights-client/.registered", "etc/insights-client/.unregistered",
				"var/lib/ubuntu-advantage/private/*", "var/lib/landscape/client/*"},
			RemoveIn: []string{"var/lib/rhsm"},
			Edit:     []Edit{{"etc/popularity-contest.conf", "no `MY_HOSTID`", without("MY_HOSTID=")}}},
		{Name: "agents", Why: "a server knows each agent by its key or id",
			Remove: []string{"etc/salt/pki/minion/*", "etc/salt/minion_id", "etc/chef/client.pem", "etc/cinc/client.pem",
				"var/lib/tailscale/tailscaled.state", "var/lib/zerotier-one/identity.*", "var/lib/teleport/host_uuid",
				"etc/docker/key.json", "var/lib/docker/engine-id", "var/lib/kubelet/pki/*", "etc/kubernetes/kubelet.conf",
				"var/lib/consul/node-id", "opt/consul/data/node-id", "var/lib/nomad/client/client-id", "opt/nomad/data/client/client-id",
				"var/lib/fwupd/pki/*", "var/lib/fwupd/gnupg", "var/lib/fwupd/pending.db", "var/lib/waagent/*"},
			RemoveIn: []string{"etc/puppetlabs/puppet/ssl", "etc/puppet/ssl", "var/lib/puppet/ssl", "var/lib/amazon/ssm"}},
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
		{Name: "template-mark", Why: "what starts from the image is a machine, which `kexport seal` must not seal without asking",
			Remove: []string{"etc/kldload/image-template"}},
		{Name: "seal-record", Why: "tools can tell a template from a machine",
			Write: map[string]string{RecordFile: record}},
	}
}
