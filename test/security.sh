#!/usr/bin/env bash
# Looks for known vulnerabilities in what is shipped, and has gosec look at its code.
# What is found is fixed, or argued in docs/security-findings.md. Both tools are fetched
# at these versions; they are no dependencies of the module, whose own they would outnumber.
set -euo pipefail
cd "$(dirname "$0")/.."

gosec=github.com/securego/gosec/v2/cmd/gosec@v2.30.0
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0
entries=golang.org/x/vulndb@latest # https://vuln.go.dev as a Go module

out=$(mktemp -d -t fleet-security-XXXXXX)
trap 'rm -rf "$out"' EXIT

database=${GOVULNDB:-https://vuln.go.dev}
if [ -z "${GOVULNDB:-}" ] && ! curl -fsS -o /dev/null -m 10 "$database/index/db.json" 2>/dev/null; then
  echo "$database is not reached: taking $entries from the module proxy" >&2
  dir=$(go mod download -json "$entries" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
  [ -n "$dir" ] || { echo "$entries has no folder" >&2; exit 1; }
  go run ./test/findings index "$dir/data/osv" "$out/database"
  database=file://$out/database
fi

# With their symbols, by which it tells what is in a binary from what is in its modules.
CGO_ENABLED=0 go build -trimpath -o "$out/bin/" ./cmd/...
for binary in "$out"/bin/*; do
  go run "$govulncheck" -db "$database" -mode binary -format json "$binary" >"$out/$(basename "$binary").vuln.json"
done
go run "$gosec" -quiet -no-fail -exclude-generated -exclude-dir test -fmt json -out "$out/gosec.json" ./...
go run ./test/findings check docs/security-findings.md "$out/gosec.json" "$out"/*.vuln.json
