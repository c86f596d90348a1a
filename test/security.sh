#!/usr/bin/env bash
# Looks for known vulnerabilities in what is shipped, and has gosec look at its code.
# What is found is fixed, or argued in docs/security-findings.md.
set -euo pipefail
cd "$(dirname "$0")/.."

entries=golang.org/x/vulndb@latest # https://vuln.go.dev as a Go module

out=$(mktemp -d -t fleet-security-XXXXXX)
trap 'rm -rf "$out"' EXIT
(cd test/findings && go build -o "$out/findings" .)

database=${GOVULNDB:-https://vuln.go.dev}
if [ -z "${GOVULNDB:-}" ] && ! curl -fsS -o /dev/null -m 10 "$database/index/db.json" 2>/dev/null; then
  echo "$database is not reached: taking $entries from the module proxy" >&2
  dir=$(go mod download -json "$entries" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
  [ -n "$dir" ] || { echo "$entries has no folder" >&2; exit 1; }
  "$out/findings" index "$dir/data/osv" "$out/database"
  database=file://$out/database
fi

# With their symbols, by which govulncheck tells what is in a binary from what is in its
# modules.
go build -o "$out/bin/" ./cmd/...
"$out/findings" check docs/security-findings.md "$database" "$out"/bin/*
