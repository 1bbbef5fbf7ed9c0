#!/usr/bin/env bash
# Times mmdebstrap, mkosi and kldload making the same packages of the same
# darksite into a tarball, a disk and a disk: bench/README.md.
#
#   ROUNDS=3 KERNEL=generic MKOSI_INITRD=stock bench/build.sh
set -euo pipefail
cd "$(dirname "$0")/.."

ROUNDS=${ROUNDS:-3}
KERNEL=${KERNEL:-generic}             # generic or cloud
MKOSI_INITRD=${MKOSI_INITRD:-stock}   # stock or tree: mkosi/tree-initrd
PARTIES=${PARTIES:-mmdebstrap mkosi kldload}
export BENCH=${BENCH:-${XDG_CACHE_HOME:-$HOME/.cache}/kldload/bench}
export KLDLOAD=${KLDLOAD:-$PWD/bin/kldload}
RELEASE=bookworm

die() {
	printf 'error: %s\n' "$@" >&2
	exit 1
}

case $KERNEL in generic | cloud) ;; *) die "KERNEL $KERNEL: want generic or cloud" ;; esac
case $MKOSI_INITRD in stock | tree) ;; *) die "MKOSI_INITRD $MKOSI_INITRD: want stock or tree" ;; esac
[[ $ROUNDS =~ ^[1-9][0-9]*$ ]] || die "ROUNDS $ROUNDS: want a number from 1"

bench/deps.sh
DARKSITE=$(realpath "${DARKSITE:-$BENCH/darksite}")
work=$BENCH/work
results=$work/results # lines of: what, wall, user, system, KiB, load

# packages prints what kldload installs for the core profile: the pinned kernel
# and its modules by name.
packages() {
	python3 - "$DARKSITE/darksite.lock" "$KERNEL" <<-'EOF'
		import json, sys
		lock = json.load(open(sys.argv[1]))
		kernels = [k for k in lock["kernels"] if k["flavour"] == sys.argv[2]]
		if not kernels:
		    sys.exit(f"error: {sys.argv[1]}: no {sys.argv[2]} kernel")
		names = lock["profiles"]["core"] + [kernels[0]["package"], kernels[0]["zfs_modules"]["package"]]
		print(",".join(sorted(set(names))))
	EOF
}

# timed WHAT COMMAND… runs a command and notes what the kernel accounted to it
# and its children. Everything earlier runs wrote is on the disk before.
timed() {
	local what=$1 load figures
	shift
	sync
	load=$(cut -d' ' -f1 /proc/loadavg)
	if ! /usr/bin/time -o "$work/figures" -f '%e %U %S %M' "$@" >"$work/log" 2>&1; then
		tail -n 30 "$work/log" >&2
		die "$what ended badly" "its output is in $work/log"
	fi
	figures=$(cat "$work/figures")
	mv "$work/log" "$work/$what.log"
	if [ "$what" != none ]; then
		echo "$what $figures $load" >>"$results"
		printf '  %-18s %8ss   load before %s\n' "$what" "${figures%% *}" "$load"
	fi
}

# change_script gives both image builders a script that no cache has seen.
change_script() {
	local n
	n=$(($(cat "$work/changes" 2>/dev/null || echo 0) + 1))
	echo "$n" >"$work/changes"
	{
		cat bench/script.sh
		echo "echo $n >/etc/bench/changes"
	} >"$work/script.chroot"
	chmod 755 "$work/script.chroot"
}

run_mmdebstrap() {
	rm -f "$work/mmdebstrap.tar"
	# The user _apt cannot read what lies in a home folder.
	timed mmdebstrap mmdebstrap --variant=minbase --include="$PACKAGES" \
		--aptopt='APT::Sandbox::User "root"' $RELEASE "$work/mmdebstrap.tar" \
		"deb [signed-by=$DARKSITE/darksite.gpg] copy:$DARKSITE $RELEASE main"
}

# mkosi WHAT OPTION… builds the disk. -f replaces the last output and keeps the
# cache; a cold build is one without Incremental=, which saves mkosi the copy
# of the tree into its cache.
mkosi() {
	local what=$1
	shift
	[ "$MKOSI_INITRD" = stock ] || set -- --include=tree-initrd "$@"
	timed "$what" unshare --mount --net bench/enter-tools.sh "$BENCH/tools" "$work" "$DARKSITE" \
		mkosi -f --package="$PACKAGES" --postinst-script=/bench/script.chroot "$@" build
}

run_mkosi() {
	mkosi mkosi-cold --incremental=no
	change_script
	mkosi mkosi-incremental --incremental=yes
}

# kldload WHAT builds the image; its cache is in $work/kldload.
kldload() {
	timed "$1" "$KLDLOAD" build --json -force --cache-dir "$work/kldload" -var "darksite=$DARKSITE" \
		-var "kernel=$KERNEL" -var "script=$work/script.chroot" -var "output=$work/output/kldload" bench/bench.pkr.hcl
}

run_kldload() {
	rm -rf "$work/kldload"
	kldload kldload-cold
	change_script
	kldload kldload-rebuild
}

# prepare makes an empty work folder and, not timed, mkosi's cache.
prepare() {
	rm -rf "$work"
	mkdir -p "$work"/{output,workspace,cache}
	cp -r bench/mkosi "$work/mkosi"
	change_script
	cat "$DARKSITE"/pool/*/*/*/*.deb >/dev/null # nobody is the one to read it first
	if [[ $PARTIES = *mkosi* ]]; then
		echo "filling mkosi's cache"
		mkosi none --incremental=yes
	fi
}

# column WHAT N prints the values of one figure, sorted.
column() { awk -v what="$1" -v n="$2" '$1 == what { print n == 0 ? $3 + $4 : $n }' "$results" | sort -n; }

# median prints median, least and most of sorted values.
median() { awk '{ v[NR] = $1 } END { printf "%.1f %.1f %.1f", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2, v[1], v[NR] }'; }

# ratio A B LIMIT LABEL prints the median of A over that of B.
ratio() {
	local a b
	a=$(column "$1" 2 | median) b=$(column "$2" 2 | median)
	[ "$(column "$1" 2)" ] && [ "$(column "$2" 2)" ] || return 0
	awk -v a="${a%% *}" -v b="${b%% *}" -v limit="$3" -v label="$4" \
		'BEGIN { printf "| %s | %.2f | %s |\n", label, a / b, limit }'
}

versions() {
	printf '%s, %s' "$(mmdebstrap --version)" "$(chroot "$BENCH/tools" mkosi --version)"
	# shellcheck disable=SC2016 # dpkg-query's own variable
	printf ', systemd %s of mkosi, kldload %s' \
		"$(chroot "$BENCH/tools" dpkg-query -W -f '${Version}' systemd)" \
		"$(git describe --always --dirty 2>/dev/null || echo unknown)"
}

# report prints Markdown tables, which are plain enough to read as they are.
report() {
	local what wall least most cpu kib rest
	cat <<-EOF

		Machine: $(nproc) cores ($(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)), $(awk '/MemTotal/ { printf "%.0f", $2 / 2^20 }' /proc/meminfo) GiB, Linux $(uname -r), $(findmnt -n -o FSTYPE -T "$work").
		Date: $(date -u +%F). Rounds: $ROUNDS. Kernel flavour: $KERNEL. mkosi's initrd: $MKOSI_INITRD.
		Versions: $(versions).

		| what | median s | min s | max s | CPU s | largest process MiB | load before |
		|---|---:|---:|---:|---:|---:|---|
	EOF
	while read -r what; do
		read -r wall least most <<<"$(column "$what" 2 | median)"
		read -r cpu rest <<<"$(column "$what" 0 | median)"
		read -r rest rest kib <<<"$(column "$what" 5 | median)"
		printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$what" "$wall" "$least" "$most" "$cpu" \
			"$(awk -v k="$kib" 'BEGIN { printf "%.0f", k / 1024 }')" "$(column "$what" 6 | paste -sd' ')"
	done < <(awk '{ print $1 }' "$results" | sort -u)
	printf '\n| ratio of medians | is | limit |\n|---|---:|---:|\n'
	ratio kldload-cold mmdebstrap 1.3 "kldload cold / mmdebstrap"
	ratio kldload-cold mkosi-cold 1.0 "kldload cold / mkosi cold"
	ratio kldload-rebuild mkosi-incremental 0.5 "kldload rebuild / mkosi incremental"
}

PACKAGES=$(packages)
prepare
for ((round = 1; round <= ROUNDS; round++)); do
	echo "round $round of $ROUNDS"
	order=$PARTIES
	((round % 2)) || order=$(tr ' ' '\n' <<<"$PARTIES" | tac | paste -sd' ')
	for party in $order; do "run_$party"; done
	if ((round == 1)); then BENCH_WORK=$work PARTIES=$PARTIES bench/check.sh; fi
done
report | tee "$work/report.md"
