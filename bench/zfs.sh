#!/usr/bin/env bash
# Times kldload zfs create against mke2fs -d on the same trees, in turns, and a
# whole build with ZFS root: what is compared is in bench/README.md.
#
#   ROUNDS=3 CASES="tree files build" bench/zfs.sh
set -euo pipefail
cd "$(dirname "$0")/.."

ROUNDS=${ROUNDS:-3}
CASES=${CASES:-tree files build}
PARTIES=${PARTIES:-kldload mke2fs}
KLDLOAD=${KLDLOAD:-$PWD/bin/kldload}
BENCH=${BENCH:-${XDG_CACHE_HOME:-$HOME/.cache}/kldload/bench}
WORK=${WORK:-$BENCH/zfs} # on the disk that images are made on
MKE2FS_LIMIT=${MKE2FS_LIMIT:-600} # seconds, for a million files
RELEASE=bookworm

die() {
	printf 'error: %s\n' "$@" >&2
	exit 1
}

[[ $ROUNDS =~ ^[1-9][0-9]*$ ]] || die "ROUNDS $ROUNDS: want a number from 1"
for tool in mke2fs mmdebstrap zdb python3 /usr/bin/time; do
	command -v "$tool" >/dev/null || die "$tool is missing" "hint: make deps, then apt-get install time"
done
[ "$(id -u)" = 0 ] || die "the tree is made and read as root"
[ -x "$KLDLOAD" ] || die "no $KLDLOAD" "hint: make build"
DARKSITE=$(realpath "${DARKSITE:-${XDG_CACHE_HOME:-$HOME/.cache}/kldload/darksites/$RELEASE}")
[ -r "$DARKSITE/darksite.lock" ] || die "no darksite in $DARKSITE" "hint: make darksite, or DARKSITE=DIR names another"

rm -rf "$WORK"
mkdir -p "$WORK" "$BENCH"
trap 'rm -rf "$WORK"' EXIT
results=$WORK/results # lines of: case, party, wall, user, system, KiB, bytes stored

# timed CASE PARTY COMMAND… runs a command, which makes $WORK/out/img or a qcow2
# in a folder beside it, and notes what it took.
timed() {
	local what=$1 party=$2 status=0
	shift 2
	rm -rf "$WORK/out"
	mkdir "$WORK/out"
	sync
	/usr/bin/time -q -o "$WORK/figures" -f '%e %U %S %M' "$@" >"$WORK/log" 2>&1 || status=$?
	if [ $status = 124 ]; then # of timeout
		echo "  $what: $party was ended after $MKE2FS_LIMIT s"
		return 1
	fi
	if [ $status != 0 ]; then
		cat "$WORK/log" >&2
		die "$what: $party ended badly"
	fi
	echo "$what $party $(cat "$WORK/figures") $(stored "$party")" >>"$results"
	printf '  %-12s %-8s %8ss   load %s\n' "$what" "$party" "$(cut -d' ' -f1 "$WORK/figures")" "$(cut -d' ' -f1 /proc/loadavg)"
}

# stored prints the bytes that the image takes: of ext4 the blocks allocated to
# the sparse file, of a pool that or what the pool itself says, whichever is more.
stored() {
	local img=$WORK/out/img file alloc=0
	[ -e "$img" ] || img=$(ls "$WORK"/out/*/*.qcow2)
	file=$(($(stat -c %b "$img") * 512))
	if [ "$1" = kldload ] && [ "$img" = "$WORK/out/img" ]; then
		alloc=$(zdb -e -p "$WORK/out" -b rpool 2>/dev/null | awk '/bp allocated:/ { print $3 }')
	fi
	echo $((file > alloc ? file : alloc))
}

# ours CASE SIZE SOURCE, theirs likewise
ours() {
	timed "$1" kldload "$KLDLOAD" zfs create --pool rpool --property compression=lz4 --property xattr=sa --property acltype=posix \
		--from "$3" --output "$WORK/out/img" --size "$2"
}
theirs() {
	truncate -s "$2" "$WORK/fresh"
	timed "$1" mke2fs sh -c 'mv "$1" "$2" && exec timeout "$3" mke2fs -q -F -t ext4 -d "$4" "$2"' sh \
		"$WORK/fresh" "$WORK/out/img" "$MKE2FS_LIMIT" "$3"
}

# in_turns ROUND CASE SIZE SOURCE runs the parties, in even rounds reversed.
in_turns() {
	local round=$1 order=$PARTIES party
	shift
	((round % 2)) || order=$(tr ' ' '\n' <<<"$PARTIES" | tac | paste -sd' ')
	for party in $order; do
		case $party in
		kldload) ours "$@" ;;
		mke2fs) theirs "$@" || PARTIES=kldload ;;
		esac
	done
}

run_tree() { in_turns "$1" tree 8G "$BENCH/tree"; }

# mke2fs of Debian bookworm reads no tar.
run_files() {
	local parties=$PARTIES
	[ "$1" = 1 ] || PARTIES=kldload # once is enough: it takes minutes
	in_turns "$1" files-dir 20G "$BENCH/million"
	PARTIES=$parties
	ours files-tar 20G "$BENCH/million.tar"
}

build() {
	timed "$1" kldload "$KLDLOAD" build -force --cache-dir "$BENCH/cache" -var "darksite=$DARKSITE" -var kernel=generic \
		-var profile=server -var storage=zfs -var compression=zstd -var script="$WORK/script" -var "output=$WORK/out/kldload" bench/bench.pkr.hcl
}
run_build() { build build; }

# prepare_tree makes a Debian server's tree from the darksite, docs and all, once.
prepare_tree() {
	[ ! -d "$BENCH/tree" ] || return 0
	echo "making $BENCH/tree"
	local packages
	packages=$(python3 - "$DARKSITE/darksite.lock" <<-'EOF'
		import json, sys
		lock = json.load(open(sys.argv[1]))
		names = lock["profiles"]["core"] + lock["profiles"]["server"]
		for k in lock["kernels"]:
		    names += [k["package"], k["zfs_modules"]["package"]]
		print(",".join(sorted(set(names))))
	EOF
	)
	rm -rf "$BENCH/tree.partial"
	mmdebstrap --mode=root --variant=minbase --format=directory --quiet --include="$packages" \
		--aptopt='APT::Sandbox::User "root"' $RELEASE "$BENCH/tree.partial" \
		"deb [signed-by=$DARKSITE/darksite.gpg] copy:$DARKSITE $RELEASE main"
	mv "$BENCH/tree.partial" "$BENCH/tree"
}

prepare_files() {
	local kind name
	for kind in dir tar; do
		name=$BENCH/million
		[ $kind = dir ] || name+=.tar
		[ ! -e "$name" ] || continue
		echo "making $name"
		rm -rf "$name.partial"
		python3 bench/million.py $kind "$name.partial"
		mv "$name.partial" "$name"
	done
}

prepare_build() {
	printf '#!/bin/sh\ntrue\n' >"$WORK/script"
	mkdir -p "$WORK/out"
	echo "filling kldload's cache"
	"$KLDLOAD" build -force -q --cache-dir "$BENCH/cache" -var "darksite=$DARKSITE" -var kernel=generic -var profile=server \
		-var storage=zfs -var script="$WORK/script" -var "output=$WORK/out/kldload" bench/bench.pkr.hcl >/dev/null
}

# warm has the page cache hold what all will read.
warm() {
	local source
	for source in "$@"; do
		find "$source" -type f -print0 | xargs -0 cat >/dev/null
	done
}

for c in $CASES; do "prepare_$c"; done
for c in $CASES; do
	case $c in
	tree) warm "$BENCH/tree" ;;
	files) warm "$BENCH/million" "$BENCH/million.tar" ;;
	esac
	for ((round = 1; round <= ROUNDS; round++)); do
		echo "$c, round $round of $ROUNDS"
		"run_$c" "$round"
	done
done
echo
echo "$(nproc) cores, Linux $(uname -r), $(date -u +%F), $(mke2fs -V 2>&1 | head -n 1), kldload $(git describe --always --dirty 2>/dev/null || echo unknown)"
python3 bench/zfs_report.py "$results"
