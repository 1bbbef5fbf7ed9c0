#!/bin/sh
# Runs a command with the tree of mkosi's tools as its root, in namespaces of
# its own without network: enter-tools.sh TOOLS WORK DARKSITE COMMAND…
# Called by build.sh through unshare --mount --net.
set -eu
tools=$1 work=$2 darksite=$3
shift 3
mount --make-rprivate /
mount --bind "$tools" "$tools" # pivot_root(2) wants a mount point
for dir in /dev /proc /sys; do mount --rbind "$dir" "$tools$dir"; done
mount -t tmpfs tmpfs "$tools/run"
mount --bind "$work" "$tools/bench"
mount --bind -o ro "$darksite" "$tools/darksite"
cd "$tools"
pivot_root . mnt
umount -l mnt
cd /bench/mkosi
exec env -i PATH=/usr/bin:/usr/sbin HOME=/root LANG=C.UTF-8 "$@"
