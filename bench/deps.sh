#!/usr/bin/env bash
# Makes what bench/build.sh compares against, below $BENCH: a root tree with
# mkosi of bookworm-backports, and a darksite for all parties. The host's
# packages and apt configuration stay as they are. Finished, it does nothing.
set -euo pipefail

BENCH=${BENCH:-${XDG_CACHE_HOME:-$HOME/.cache}/kldload/bench}
KLDLOAD=${KLDLOAD:-bin/kldload}
MKOSI=24.3 # the version docs/benchmarks.md quotes

die() {
	printf 'error: %s\n' "$@" >&2
	exit 1
}

# mirror prints the address the host's apt has for Debian's bookworm.
mirror() {
	local uri
	# shellcheck disable=SC2016 # apt's own variables
	uri=$(apt-get indextargets --format '$(CREATED_BY) $(RELEASE) $(CODENAME) $(COMPONENT) $(REPO_URI)' |
		awk '$1 == "Packages" && $3 == "bookworm" && $4 == "main" { print $5; exit }')
	[ -n "$uri" ] || die "the host's apt knows no mirror of bookworm" \
		"hint: BENCH_MIRROR=URL names one"
	echo "$uri"
}

# tools makes the tree. What must come from backports is named as such: the
# rest of the tree is the stable release.
make_tools() {
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg url suite
	local backports=(mkosi systemd systemd-container systemd-boot systemd-boot-efi udev
		libsystemd-shared libsystemd0 libudev1)
	local stable=(python3 python3-pefile bubblewrap squashfs-tools mtools dosfstools cpio zstd e2fsprogs
		fdisk kmod xz-utils uidmap gpgv debian-archive-keyring util-linux procps)
	[ -r $keyring ] || die "no $keyring" "hint: apt-get install debian-archive-keyring"
	url=${BENCH_MIRROR:-$(mirror)}
	rm -rf "$BENCH/tools.partial"
	for suite in bookworm bookworm-updates bookworm-backports; do
		echo "deb [signed-by=$keyring] $url $suite main"
	done >"$BENCH/tools.list"
	mmdebstrap --mode=root --variant=apt --format=directory --quiet \
		--aptopt='APT::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"' \
		--aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
		--include="$(IFS=,; echo "${backports[*]/%//bookworm-backports},${stable[*]}")" \
		'' "$BENCH/tools.partial" - <"$BENCH/tools.list"
	mkdir -p "$BENCH/tools.partial/darksite" "$BENCH/tools.partial/bench"
	mv "$BENCH/tools.partial" "$BENCH/tools"
}

for tool in mmdebstrap unshare pivot_root sfdisk debugfs mdir qemu-img python3 /usr/bin/time; do
	command -v "$tool" >/dev/null || die "$tool is not installed" \
		"hint: make deps, then apt-get install time python3"
done
[ "$(id -u)" = 0 ] || die "the tree of mkosi's tools is made and entered as root"
[ -x "$KLDLOAD" ] || die "no $KLDLOAD" "hint: make build"
mkdir -p "$BENCH"

[ -d "$BENCH/tools" ] || make_tools
got=$(chroot "$BENCH/tools" mkosi --version)
[ "$got" = "mkosi $MKOSI" ] || die "$BENCH/tools has $got, wanted $MKOSI"
for tool in bwrap systemd-repart bootctl apt-get dpkg mkfs.ext4 mkfs.vfat mcopy cpio zstd /usr/lib/systemd/ukify; do
	chroot "$BENCH/tools" sh -c "command -v $tool" >/dev/null || die "$BENCH/tools lacks $tool"
done

# The extra packages are in the default initrd of mkosi, not in any image.
[ -n "${DARKSITE:-}" ] || "$KLDLOAD" darksite create --profile core --kernel generic,cloud \
	--extra-package lvm2,p11-kit,libtss2-esys-3.0.2-0,libtss2-mu0,libtss2-rc0,libtss2-tcti-device0 \
	--output "$BENCH/darksite"
