#!/usr/bin/env bash
# Times kldload scan on an image: wall and CPU seconds, memory at peak, files
# looked at. As any user, with python3.
#
#     bench/scan.sh IMAGE
set -euo pipefail
cd "$(dirname "$0")/.."
image=${1:?"usage: bench/scan.sh IMAGE"}
kldload=${KLDLOAD:-bin/kldload}
rounds=${ROUNDS:-3}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

echo "| round | wall s | CPU s | MiB at peak | load | files | findings |"
echo "|---|---:|---:|---:|---:|---:|---:|"
for ((i = 1; i <= rounds; i++)); do
	load=$(cut -d' ' -f1 /proc/loadavg)
	python3 - "$i" "$load" "$log" "$kldload" --json scan "$image" <<'PY'
import json, os, resource, subprocess, sys, time
number, load, log, *command = sys.argv[1:]
start = time.monotonic()
with open(log, "wb") as out:
    code = subprocess.run(command, stdout=out, stderr=subprocess.DEVNULL).returncode
wall = time.monotonic() - start
if code not in (0, 3):
    sys.exit(f"error: {' '.join(command)}: exit status {code}")
use = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(log) as lines:
    result = [json.loads(line) for line in lines][-1]["data"]
print(f"| {number} | {wall:.1f} | {use.ru_utime + use.ru_stime:.1f} | {use.ru_maxrss / 1024:.0f} | {load} | {result['files']} | {len(result['findings'])} |")
PY
done
