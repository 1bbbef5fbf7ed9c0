#!/usr/bin/env bash
# Times kexport and qemu-img converting the same disk, in turns: what is
# compared is in bench/README.md.
#
#   DISK=disk.raw ROUNDS=5 bench/convert.sh
set -euo pipefail
cd "$(dirname "$0")/.."

ROUNDS=${ROUNDS:-5}
CASES=${CASES:-six qcow2 vmdk qcow2-plain raw vhd vhd-dynamic vhdx vmdk-sparse read-qcow2 read-vmdk}
KEXPORT=${KEXPORT:-$PWD/bin/kexport}
WORK=${WORK:-/dev/shm/kldload-bench}
DISK=${DISK:-output/kldload-server-1.0.0/kldload-server-1.0.0.qcow2}
CHECKSUM=${CHECKSUM:-sha256} # or none, for what qemu-img has no counterpart to

die() {
	printf 'error: %s\n' "$@" >&2
	exit 1
}

[[ $ROUNDS =~ ^[1-9][0-9]*$ ]] || die "ROUNDS $ROUNDS: want a number from 1"
[ -r "$DISK" ] || die "$DISK: not there" "hint: make image builds it, or DISK=FILE names another"
for tool in qemu-img /usr/bin/time python3; do
	command -v $tool >/dev/null || die "$tool is missing" "hint: apt-get install qemu-utils time python3"
done

rm -rf "$WORK"
mkdir -p "$WORK"
trap 'rm -rf "$WORK"' EXIT
results=$WORK/results # lines of: case, party, wall, user, system, KiB, bytes, factor
src=$WORK/disk.raw
qemu-img convert -m 8 -W -O raw "$DISK" "$src"

# timed CASE PARTY FACTOR OUTPUT COMMAND… runs a command and notes what it took
# and how large the output is. A factor of 2 counts it twice.
timed() {
	local what=$1 party=$2 factor=$3 out=$4 bytes
	shift 4
	rm -rf "$WORK/out"
	mkdir "$WORK/out"
	sync
	/usr/bin/time -o "$WORK/figures" -f '%e %U %S %M' "$@" >"$WORK/log" 2>&1 || {
		cat "$WORK/log" >&2
		die "$what: $party ended badly"
	}
	bytes=0
	[ "$out" = - ] || bytes=$(stat -c %s "$WORK/out/$out")
	echo "$what $party $(cat "$WORK/figures") $bytes $factor" >>"$results"
}

# ours CASE OUTPUT FORMAT [SUBFORMAT…]
ours() {
	local what=$1 out=$2 format=$3 args=() s
	shift 3
	for s in "$@"; do args+=(--subformat "$s"); done
	timed "$what" kexport 1 "$out" "$KEXPORT" convert --input "${INPUT:-$src}" --format "$format" \
		--output-dir "$WORK/out" --name x --checksum "$CHECKSUM" "${args[@]}"
}

# theirs CASE FACTOR OUTPUT OPTIONS… with the flags that are its fastest
theirs() {
	local what=$1 factor=$2 out=$3
	shift 3
	timed "$what" qemu-img "$factor" "$out" qemu-img convert -m 8 -W "$@" "${INPUT:-$src}" "$WORK/out/$out"
}

run_six() {
	ours six - qcow2,vmdk,ova,vhd,vhdx,raw
	theirs six 1 x.qcow2 -c -O qcow2
	theirs six 2 x.vmdk -O vmdk -o subformat=streamOptimized # and as the ova
	theirs six 1 x.vhd -O vpc -o subformat=fixed,force_size=on
	theirs six 1 x.vhdx -O vhdx
	theirs six 1 x.raw -O raw
}
run_qcow2() { ours qcow2 x.qcow2 qcow2 && theirs qcow2 1 x.qcow2 -c -O qcow2; }
run_vmdk() { ours vmdk x.vmdk vmdk && theirs vmdk 1 x.vmdk -O vmdk -o subformat=streamOptimized; }
run_qcow2-plain() { ours qcow2-plain x.qcow2 qcow2 compression=none && theirs qcow2-plain 1 x.qcow2 -O qcow2; }
run_raw() { ours raw x.raw raw && theirs raw 1 x.raw -O raw; }
run_vhd() { ours vhd x.vhd vhd && theirs vhd 1 x.vhd -O vpc -o subformat=fixed,force_size=on; }
run_vhd-dynamic() { ours vhd-dynamic x.vhd vhd vhd.subformat=dynamic && theirs vhd-dynamic 1 x.vhd -O vpc; }
run_vhdx() { ours vhdx x.vhdx vhdx && theirs vhdx 1 x.vhdx -O vhdx; }
run_vmdk-sparse() { ours vmdk-sparse x.vmdk vmdk vmdk.subformat=monolithicSparse && theirs vmdk-sparse 1 x.vmdk -O vmdk; }
run_read-qcow2() { INPUT=$WORK/in.qcow2 && both_read read-qcow2; }
run_read-vmdk() { INPUT=$WORK/in.vmdk && both_read read-vmdk; }
both_read() {
	INPUT=$INPUT ours "$1" x.raw raw
	INPUT=$INPUT theirs "$1" 1 x.raw -O raw
	unset INPUT
}

case " $CASES " in *" read-qcow2 "*) qemu-img convert -m 8 -W -c -O qcow2 "$src" "$WORK/in.qcow2" ;; esac
case " $CASES " in *" read-vmdk "*) qemu-img convert -m 8 -W -O vmdk -o subformat=streamOptimized "$src" "$WORK/in.vmdk" ;; esac
for round in $(seq "$ROUNDS"); do
	echo "round $round, load $(cut -d' ' -f1 /proc/loadavg)"
	for c in $CASES; do "run_$c"; done
done
python3 bench/convert_report.py "$results" "$ROUNDS"
