#!/bin/sh
# Installs, on Debian, what building, booting and testing need. Does nothing
# when all of it is there. kldload itself needs no root at run time.
set -eu

# runtime: what the product calls
packages="mmdebstrap apt-utils gpgv debian-archive-keyring uidmap
	qemu-system-x86 qemu-utils ovmf ca-certificates openssh-client"
# judges: what the tests believe in place of our own reading
packages="$packages e2fsprogs dosfstools mtools gdisk fdisk util-linux mount cpio zstd
	xz-utils acl attr libcap2-bin openssh-server procps gnupg make 7zip
	libarchive-tools libxml2-utils"

missing=
for p in $packages; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "error: not installed:$missing" >&2
	echo "hint: as root: apt-get install --no-install-recommends$missing" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# A service that a judge brings must not start on the machine that tests.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f $policy' EXIT
fi
# shellcheck disable=SC2086 # a list of names
apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends $missing >/dev/null

# Nor at the next boot: tests start sshd themselves.
case "$missing " in
*" openssh-server "*) ! command -v systemctl >/dev/null || systemctl -q disable ssh.service ;;
esac
