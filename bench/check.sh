#!/usr/bin/env bash
# Looks at what build.sh's first round made: the same packages everywhere, and
# disks with what a firmware and a kernel need. Not timed.
set -euo pipefail
work=$BENCH_WORK

die() {
	printf 'error: %s\n' "$@" >&2
	exit 1
}

# installed counts the packages of a dpkg database.
installed() { grep -c '^Status: install ok installed' "$1"; }

# check_disk NAME RAW asserts a clean ESP with a boot loader, a kernel and an
# initramfs, and a clean root file system.
check_disk() {
	local name=$1 raw=$2 esp root files
	esp=$(start "$raw" C12A7328-F81F-11D2-BA4B-00A0C93EC93B)
	root=$(start "$raw" 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709)
	[[ -n $esp && -n $root ]] || die "$name: no ESP and root partition (UAPI.2)"
	files=$(mdir -/ -b -i "$raw@@$esp" ::/)
	grep -qi 'EFI/BOOT/BOOTX64.EFI' <<<"$files" || die "$name: no boot loader in its ESP" "$files"
	grep -qiE 'EFI/Linux/.*\.efi|initrd' <<<"$files" || die "$name: no initramfs in its ESP" "$files"
	e2fsck -fn "$raw?offset=$root" >"$work/e2fsck.log" 2>&1 || die "$name: e2fsck complains" "$(cat "$work/e2fsck.log")"
	debugfs -R "dump /var/lib/dpkg/status $work/status" "$raw?offset=$root" 2>/dev/null
	say "$name" "$raw"
}

# start prints where the partition of a type starts, in bytes.
start() { sfdisk -l -o Start,Type-UUID "$1" | awk -v t="$2" '$2 == t { print $1 * 512 }'; }

packages=
say() {
	local n
	n=$(installed "$work/status")
	printf '  %-12s %s packages, %s on disk\n' "$1" "$n" "$(du -h "$2" | cut -f1)"
	[ "${packages:=$n}" = "$n" ] || die "$1 has $n packages, the others $packages"
}

for party in $PARTIES; do
	case $party in
	mmdebstrap)
		tar -xOf "$work/mmdebstrap.tar" ./var/lib/dpkg/status >"$work/status"
		tar -tf "$work/mmdebstrap.tar" | grep '^./boot/initrd.img-' >/dev/null || die "mmdebstrap: no initramfs"
		say mmdebstrap "$work/mmdebstrap.tar"
		;;
	mkosi) check_disk mkosi "$work/output/bench.raw" ;;
	kldload)
		qemu-img check -q "$work/output/kldload/bench.qcow2"
		qemu-img convert -O raw "$work/output/kldload/bench.qcow2" "$work/kldload.raw"
		check_disk kldload "$work/kldload.raw"
		rm "$work/kldload.raw"
		;;
	esac
done
