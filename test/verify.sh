#!/usr/bin/env bash
# Fails when `make generate` would change a file. Works on a copy,
# so that what is checked is not changed by the check.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d -t fleet-verify-XXXXXX)
trap 'rm -rf "$copy"' EXIT
# Without what is deleted and still tracked: there is nothing to copy.
git ls-files -z --cached --others --exclude-standard |
  while IFS= read -r -d '' file; do
    if [ -e "$file" ] || [ -L "$file" ]; then printf '%s\0' "$file"; fi
  done |
  tar --null -T - -cf - | tar -C "$copy" -xf -
(cd "$copy" && git init -q && git add -A &&
  git -c user.name=verify -c user.email=verify@localhost commit -qm before &&
  make --no-print-directory generate) >"$copy.log" 2>&1 || {
  cat "$copy.log" >&2; rm -f "$copy.log"; echo "make generate failed" >&2; exit 1; }
rm -f "$copy.log"

stale=$(git -C "$copy" status --porcelain)
if [ -n "$stale" ]; then
  git -C "$copy" diff | head -n 60 >&2
  printf 'stale, run make generate:\n%s\n' "$stale" >&2
  exit 1
fi
