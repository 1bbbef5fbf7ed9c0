#!/bin/sh
# Installs, on Debian, what building, booting and testing need. Does nothing
# when all of it is there. kldload itself needs no root at run time.
set -eu

# runtime: what the product calls
packages="mmdebstrap apt-utils gpgv debian-archive-keyring uidmap
	qemu-system-x86 qemu-utils ovmf ca-certificates openssh-client"
# judges: what the tests believe in place of our own reading
packages="$packages e2fsprogs dosfstools mtools gdisk fdisk util-linux mount cpio zstd
	xz-utils acl attr libcap2-bin openssh-server openssl minisign git procps gnupg make 7zip
	libarchive-tools libxml2-utils python3 sqlite3 lz4 bzip2 systemd-journal-remote
	zfsutils-linux grub-common systemd"

missing=
for p in $packages; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "error: not installed:$missing" >&2
	echo "hint: as root: apt-get install --no-install-recommends$missing" >&2
	case "$missing " in *" zfsutils-linux "*) echo "hint: zfsutils-linux is in Debian's contrib" >&2 ;; esac
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# zdb, in zfsutils-linux, needs no ZFS in the kernel, but contrib in apt.
if ! apt-cache policy zfsutils-linux | grep -q 'Candidate: [0-9]'; then
	"$(dirname "$0")/contrib.sh"
	apt-get -qq update
fi
# A service that a judge brings must not start on the machine that tests.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f $policy' EXIT
fi
# shellcheck disable=SC2086 # a list of names
apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends $missing >/dev/null

# Nor at the next boot: tests start sshd themselves, and zdb needs no pool.
command -v systemctl >/dev/null || exit 0
case "$missing " in *" openssh-server "*) systemctl -q disable ssh.service ;; esac
case "$missing " in *" zfsutils-linux "*) systemctl -q disable zfs.target ;; esac
