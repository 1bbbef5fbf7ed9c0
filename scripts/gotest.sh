#!/bin/sh
# go test with every test's name, of which only what matters is printed: each
# package's result, every skip, and all that a failing test said.
set -eu
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
go test -v "$@" >"$log" 2>&1 || status=$?
# a skip's reason stands in the line before its verdict
awk '/no test files/ {next} /^(ok|FAIL|panic:)|^ *--- FAIL/ {print} /^ *--- SKIP/ {print $0 "  " before} {before = $0}' "$log"
if [ "$status" != 0 ]; then
	echo "--- what the failing tests said:"
	# go test -v prints a test's lines between its RUN and its verdict
	awk '/^=== RUN/ {text = ""} {text = text $0 "\n"} /^ *--- FAIL|^panic:|^FAIL/ {printf "%s", text; text = ""}' "$log" | tail -n 300
fi
exit "$status"
