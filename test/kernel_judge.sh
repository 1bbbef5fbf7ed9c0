# Runs as root in a clone of an image, with the pools "judge" (made from a tree)
# and "fromtar" on extra disks 1 and 2. Beside it lie the program manifest and
# the tree's manifest, expected. Every step prints a line; the first that goes
# wrong ends it.
set -eu
here=$(dirname "$0")
root=judge/ROOT/default
cd /
exec 2>&1

step() { echo "-- $* ($(cut -d. -f1 /proc/uptime) s)"; }
fail() {
	echo "FAILED: $*"
	dmesg | grep -E 'PANIC|VERIFY|BUG:|Oops|SPLError' || true
	exit 1
}

healthy() {
	zpool status -x "$1" | grep -q 'is healthy' || { zpool status -v "$1"; fail "zpool status complains of $1"; }
}

# mount_all ROOT BELOW mounts the root and what of BELOW mounts by itself.
mount_all() {
	zfs mount "$1"
	zfs list -H -p -r -t filesystem -o mountpoint,canmount,name "$2" | sort | while IFS="$(printf '\t')" read -r at can name; do
		[ "$can" = on ] && [ "${at#/}" != "$at" ] || continue
		zfs mount "$name"
	done
}

unmount_all() {
	sort -r /proc/mounts | while read -r dev at kind rest; do
		case $kind:$dev in zfs:judge | zfs:judge/*) echo "$at" ;; esac
	done | sort -r | while read -r at; do umount "$at"; done
}

# compare WHAT holds the mounted tree against the source.
compare() {
	"$here/manifest" /mnt/judge >"$here/got"
	cmp -s "$here/expected" "$here/got" || {
		diff "$here/expected" "$here/got" | cut -c1-500 | head -n 40
		fail "$1 is not what the tree was (< tree, > pool)"
	}
	echo "$(wc -l <"$here/got") files are equal"
}

# accounting compares zfs userspace with the sums of stat(2), dataset by dataset,
# each mounted alone so that no mount hides a folder. stat counts all slots of a
# dnode, userspace 512 bytes for each.
accounting() {
	mkdir -p /mnt/alone
	zfs list -H -r -t filesystem -o name judge | while read -r name; do
		mount -t zfs -o zfsutil "$name" /mnt/alone
		"$here/manifest" -owners /mnt/alone >"$here/stat"
		umount /mnt/alone
		zfs userspace -H -n -p -o name,objused,used "$name" | sort -n >"$here/userspace"
		paste "$here/stat" "$here/userspace" | awk -v set="$name" '{
			more = $3 - $6
			if ($1 != $4 || $2 != $5 || more < 0 || more > 512 * $2 || more % 512) {
				print set ": uid, files and bytes by stat, then by zfs userspace: " $0
				bad = 1
			}
		} END { exit bad }' || fail "accounting of $name"
	done
}

modprobe zfs
step import
zpool import -d /dev/disk/by-id/virtio-disk1 -N -R /mnt/judge judge || fail "the pool does not import without force"
zpool import -d /dev/disk/by-id/virtio-disk2 -N -R /mnt/fromtar fromtar || fail "the pool made from a tar does not import"
healthy judge
healthy fromtar
[ "$(zpool get -H -o value bootfs judge)" = $root ] || fail "bootfs is $(zpool get -H -o value bootfs judge)"
[ "$(zfs get -H -o value,source quota judge/home)" = "$(printf '1G\tlocal')" ] || fail "the quota of judge/home: $(zfs get quota judge/home)"
for set in $(zfs list -H -r -t filesystem -o name judge); do
	zfs list -H -t snapshot "$set@golden" >/dev/null || fail "$set has no snapshot golden"
done

step accounting
accounting
step the tree
mount_all $root judge
compare "the mounted pool"

step attributes from a tar
zfs mount fromtar/ROOT/default
"$here/manifest" /mnt/fromtar >"$here/got"
while read -r line; do
	grep -qF -- "$line" "$here/got" || { cut -c1-500 "$here/got"; fail "no $line in the pool made from a tar"; }
done <"$here/expected-tar"

step scrub
zpool scrub -w judge
zpool scrub -w fromtar
zpool status -v judge fromtar | grep -c 'with 0 errors' | grep -qx 2 || { zpool status -v; fail scrub; }

step send and receive
unmount_all
zfs create -o mountpoint=none -o canmount=off judge/received
(zfs send -R judge@golden || echo "send ended with $?" >&2) | zfs receive -u judge/received/copy || fail "receiving judge@golden"
mount_all judge/received/copy/ROOT/default judge/received/copy
compare "what was received"
unmount_all
zfs destroy -r judge/received

step write, snapshot, clone, rollback, destroy
zfs mount $root
cd /mnt/judge
zfs snapshot -r judge@now
mkdir -p new/folder
dd if=/dev/urandom of=new/noise bs=1M count=20 status=none
for i in $(seq 500); do : >"many/and-new-file-$i"; done
rm sizes/noise-4096 sizes/big many/11*
mv links/a new/a
sync
zfs clone -o mountpoint=none -o canmount=off $root@now judge/clone
zfs destroy judge/clone
cd /
zfs rollback $root@now
zfs destroy -r judge@now
unmount_all

step import again
zpool export judge
zpool import -d /dev/disk/by-id/virtio-disk1 -N -R /mnt/judge judge
healthy judge
mount_all $root judge
compare "the pool after all that"
unmount_all
zpool export judge
zpool export fromtar
if dmesg | grep -E 'PANIC|VERIFY|BUG:|Oops|SPLError'; then fail "the kernel complained"; fi
step done
echo JUDGED
