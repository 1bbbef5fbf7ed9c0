package seal

import "slices"

// traceItems are what the build or a former life left behind.
func traceItems(opts Options) []Item {
	return slices.Concat([]Item{cloudInitItem(), installerItem()}, loggedItems(), typedItems(), []Item{
		{Name: "package-caches", Why: "a mirror has them, an image does not need them",
			Remove: []string{"var/lib/apt/lists/*", "var/lib/apt/periodic/*", "var/cache/apt/*", "var/lib/dpkg/*-old", "var/cache/debconf/*-old",
				"var/cache/ldconfig/aux-cache", "var/cache/dnf/*", "var/cache/libdnf5/*", "var/cache/yum/*", "var/cache/PackageKit/*",
				"var/cache/zypp/*", "var/cache/snapd/*", "var/cache/fontconfig/*", "var/lib/rpm/__db.*"},
			RemoveIn: []string{"var/cache/man"}},
		temporaryItem(opts),
		{Name: "swap-files", Why: "they hold memory of another machine, with its secrets",
			Remove: slices.Clone(swapFiles),
			Edit:   []Edit{{"etc/fstab", "no line of a swap file that went", withoutSwap}}},
		{Name: "service-state", Why: "counters, stamps and drifts of another machine",
			RemoveIn: []string{"var/lib/systemd/timers", "var/lib/systemd/rfkill", "var/lib/systemd/backlight", "var/lib/systemd/timesync",
				"var/lib/chrony", "var/lib/logrotate", "var/lib/sudo", "var/db/sudo", "var/lib/upower"},
			Remove: []string{"etc/.pwd.lock", "etc/.updated", "var/.updated", "var/lib/ntp/ntp.drift", "var/lib/ntp/drift", "var/lib/ntpsec/ntp.drift",
				"var/lib/mlocate/mlocate.db", "var/lib/plocate/plocate.db", "var/lib/plymouth/boot-duration"},
			Edit: []Edit{{"etc/adjtime", "no drift; local time or UTC stays", noDrift}}},
	})
}

func cloudInitItem() Item {
	return Item{Name: "cloud-init-state", Why: "cloud-init runs as on a machine it never saw",
		Remove: []string{"var/lib/cloud/*", "etc/netplan/50-cloud-init.yaml*", "etc/network/interfaces.d/50-cloud-init*",
			"etc/systemd/network/10-cloud-init-*", "etc/NetworkManager/system-connections/cloud-init-*",
			"etc/NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf",
			"etc/ssh/sshd_config.d/50-cloud-init.conf", "etc/sudoers.d/90-cloud-init-users", "etc/cloud/cloud-init.disabled"},
		RemoveIf: map[string]string{"etc/sysconfig/network-scripts/ifcfg-*": "Created by cloud-init"}}
}

func installerItem() Item {
	return Item{Name: "installer-traces", Why: "answers files hold passwords; what an installer tells cloud-init hides the data of the platform",
		Remove: []string{"root/answers*", "root/anaconda-ks.cfg", "root/original-ks.cfg", "root/initial-setup-ks.cfg", "root/ks.cfg", "root/preseed.cfg",
			"etc/kldload/answers*", "etc/kldload/install-manifest*", "usr/sbin/policy-rc.d",
			"etc/cloud/cloud.cfg.d/99-installer.cfg", "etc/cloud/cloud.cfg.d/90-installer-network.cfg",
			"etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg"}}
}

// atJob is the name of a job of at(1): its queue, its number, its time.
const atJob = "[a-zA-Z=][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]*"

// loggedItems are what services wrote down.
func loggedItems() []Item {
	return []Item{
		{Name: "logs", Why: "the journal, login records and logs are of another machine",
			Remove: []string{"var/log/journal/*", "var/log/installer", "var/log/anaconda", "var/account/pacct*",
				"var/lib/lastlog/*", "var/lib/wtmpdb/*"},
			RemoveIn: []string{"var/log"}},
		{Name: "crash-data", Why: "a core dump is memory, with its secrets",
			Remove:   []string{"var/crash/*", "var/spool/abrt/*", "var/spool/abrt-upload/*", "var/cache/abrt-di/*", "boot/initramfs-*kdump.img"},
			RemoveIn: []string{"var/lib/systemd/coredump", "var/lib/systemd/pstore"}},
		{Name: "spools", Why: "mail and jobs that were waiting on another machine; crontabs stay",
			Remove: []string{"var/mail/*", "var/spool/mail/*", "var/spool/at/" + atJob, "var/spool/at/spool/*",
				"var/spool/cron/atjobs/" + atJob, "var/spool/cron/atspool/*", "var/lib/postfix/master.lock"},
			RemoveIn: append(below("var/spool/postfix/", "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop", "saved", "trace"),
				"var/spool/exim4/input", "var/spool/exim4/msglog", "var/spool/exim/input", "var/spool/exim/msglog", "var/spool/mqueue", "var/spool/clientmqueue")},
	}
}

// typedItems are what people typed.
func typedItems() []Item {
	return []Item{
		{Name: "histories", Why: "shells, editors and clients keep what was typed, passwords too",
			Remove: below("~/", ".*_history", ".history", ".zhistory", ".bash_sessions", ".zsh_sessions", ".viminfo*", ".vim/.netrwhist", ".lesshst",
				".local/share/fish/fish_history", ".local/share/nvim/shada", ".local/state/nvim/shada", ".local/state/less*", ".local/state/*_history",
				".local/state/nano", ".local/share/nano", ".nano", ".ipython/profile_default/history.sqlite", ".mongodb/mongosh/*_history", ".dbshell",
				".local/share/powershell/PSReadLine", ".local/share/recently-used.xbel", ".wget-hsts", ".rnd")},
		{Name: "session-traces", Why: "whom a user of another machine talked to, and cookies of its sessions",
			Remove: below("~/", ".ssh/known_hosts*", ".sudo_as_admin_successful", ".Xauthority", ".ICEauthority", ".xsession-errors*",
				".dbus/session-bus/*", ".ansible/cp", ".ansible/tmp", ".config/pulse/cookie")},
	}
}

// temporaryItem leaves what a running machine runs on.
func temporaryItem(opts Options) Item {
	i := Item{Name: "temporary-files", Why: "scripts and uploads end here", Remove: []string{"tmp/*", "var/tmp/*"}}
	if !opts.Live {
		i.Remove = append(i.Remove, "run/*")
	}
	return i
}

func below(dir string, names ...string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = dir + n
	}
	return out
}
