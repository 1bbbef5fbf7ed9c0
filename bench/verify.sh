#!/usr/bin/env bash
# Times kexport verify on the golden image in several formats: bench/README.md.
#
#   ROUNDS=5 FORMATS="qcow2 raw" bench/verify.sh
set -euo pipefail
cd "$(dirname "$0")/.."

ROUNDS=${ROUNDS:-5}
FORMATS=${FORMATS:-qcow2 raw vmdk}
KEXPORT=${KEXPORT:-$PWD/bin/kexport}
LIMIT=3 # seconds

die() {
	printf 'error: %s\n' "$@" >&2
	exit 1
}

[[ $ROUNDS =~ ^[1-9][0-9]*$ ]] || die "ROUNDS $ROUNDS: want a number from 1"
[ -x /usr/bin/time ] || die "/usr/bin/time is missing" "hint: apt-get install time"
[ -x "$KEXPORT" ] || die "no $KEXPORT" "hint: make build"
DISK=${DISK:-$(ls output/*/*.qcow2 2>/dev/null | head -n 1)}
[ -r "$DISK" ] || die "no image in output/" "hint: make image, or DISK=FILE names another"
WORK=$(mktemp -d "${WORK:-/dev/shm}/kldload-verify.XXXXXX")
trap 'rm -rf "$WORK"' EXIT

"$KEXPORT" convert -q --checksum none --format "${FORMATS// /,}" --input "$DISK" --output-dir "$WORK" --name disk >/dev/null
printf '%s, load %s\n\n' "$(basename "$DISK")" "$(cut -d' ' -f1 /proc/loadavg)"
printf '| format | wall s, median | worst | CPU s | MiB at peak | wanted |\n|---|---:|---:|---:|---:|---:|\n'
worst=0
for format in $FORMATS; do
	rm -f "$WORK/times"
	for _ in $(seq "$ROUNDS"); do
		/usr/bin/time -a -o "$WORK/times" -f '%e %U %S %M' "$KEXPORT" verify -q "$WORK"/disk."$format" >/dev/null ||
			die "kexport verify of $format: an assertion does not hold"
	done
	sort -n "$WORK/times" | awk -v f="$format" -v l="$LIMIT" '{ w[NR] = $1; cpu += $2 + $3; if ($4 > m) m = $4 }
		END { printf "| %s | %.2f | %.2f | %.2f | %d | ≤ %d |\n", f, w[int((NR + 1) / 2)], w[NR], cpu / NR, m / 1024, l }'
	worst=$(sort -n "$WORK/times" | awk -v x="$worst" '{ w[NR] = $1 } END { m = w[int((NR + 1) / 2)]; print (m > x ? m : x) }')
done
awk -v w="$worst" -v l="$LIMIT" 'BEGIN { exit !(w <= l) }' || die "median $worst s: want $LIMIT s at most"
