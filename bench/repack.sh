#!/usr/bin/env bash
# Times kexport seal --input against writing the same tree anew, in turns, for
# both root file systems: bench/README.md.
#
#   ROUNDS=5 ROOTS="zfs ext4" bench/repack.sh
set -euo pipefail
cd "$(dirname "$0")/.."

ROUNDS=${ROUNDS:-5}
ROOTS=${ROOTS:-zfs ext4}
KLDLOAD=${KLDLOAD:-$PWD/bin/kldload}
DARKSITE=$(realpath "${DARKSITE:-${XDG_CACHE_HOME:-$HOME/.cache}/kldload/darksites/bookworm}")

die() {
	printf 'error: %s\n' "$@" >&2
	exit 1
}

[[ $ROUNDS =~ ^[1-9][0-9]*$ ]] || die "ROUNDS $ROUNDS: want a number from 1"
[ -x "$KLDLOAD" ] || die "no $KLDLOAD" "hint: make build"
[ -r "$DARKSITE/darksite.lock" ] || die "no darksite in $DARKSITE" "hint: make darksite, or DARKSITE=DIR names another"
WORK=$(mktemp -d "${WORK:-/dev/shm}/kldload-repack.XXXXXX")
trap 'rm -rf "$WORK"' EXIT

# template ROOT writes the template of a build with that root.
template() {
	cat >"$WORK/$1.pkr.hcl" <<-EOF
		source "kldload" "golden" {
		  distro           = "debian"
		  release          = "bookworm"
		  profile          = "server"
		  darksite         = "$DARKSITE"
		  vm_name          = "golden"
		  storage          = "$1"
		  output_directory = "$WORK/$1"
		  skip_boot        = true
		}
		build {
		  sources = ["source.kldload.golden"]
		  post-processor "kexport" {
		    formats = ["qcow2"]
		  }
		}
	EOF
}

# seconds STAGE… adds up what the stages of a command's events took.
seconds() {
	python3 -c '
import json, sys
took = {e["stage"]: e.get("seconds", 0) for e in map(json.loads, sys.stdin) if e.get("event") == "stage-done"}
missing = [s for s in sys.argv[1:] if s not in took]
if missing: sys.exit("no stage " + ", ".join(missing))
print(sum(took[s] for s in sys.argv[1:]))' "$@"
}

for root in $ROOTS; do
	template "$root"
	for round in $(seq "$ROUNDS"); do
		rm -rf "${WORK:?}/$root"
		"$KLDLOAD" build --json "$WORK/$root.pkr.hcl" >"$WORK/log" || die "building with root on $root" "$(tail -n 3 "$WORK/log")"
		anew=$(seconds disk verify formats <"$WORK/log")
		image=$(ls "$WORK/$root"/*.qcow2)
		"$KLDLOAD" kexport seal --json --input "$image" --output "$WORK/again.qcow2" --force >"$WORK/log" || die "re-packing" "$(tail -n 3 "$WORK/log")"
		again=$(seconds look seal disk verify convert <"$WORK/log")
		printf '  %s, round %s: anew %.1f s, re-packed %.1f s, load %s\n' "$root" "$round" "$anew" "$again" "$(cut -d' ' -f1 /proc/loadavg)" >&2
		echo "$root $anew $again $(stat -c %s "$image") $(stat -c %s "$WORK/again.qcow2")" >>"$WORK/results"
	done
done
python3 - "$WORK/results" <<'EOF'
import statistics, sys
rows = {}
for line in open(sys.argv[1]):
    root, *figures = line.split()
    rows.setdefault(root, []).append([float(f) for f in figures])
print("| root | anew s | re-packed s | ratio, median of the pairs | wanted | anew MiB | re-packed MiB |")
print("|---|---:|---:|---:|---:|---:|---:|")
bad = []
for root, r in rows.items():
    ratio = statistics.median(b / a for a, b, _, _ in r)
    anew, again, size, size2 = (statistics.median(x) for x in zip(*r))
    print(f"| {root} | {anew:.1f} | {again:.1f} | {ratio:.2f} | ≤ 1.5 | {size / 2**20:.0f} | {size2 / 2**20:.0f} |")
    if ratio > 1.5 or size2 > size:
        bad.append(root)
sys.exit(f"too slow or too large: {', '.join(bad)}" if bad else 0)
EOF
