#!/usr/bin/env bash
# Fails when `make generate` would change a file. Works on a copy,
# so that what is checked is not changed by the check.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d -t fleet-verify-XXXXXX)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 -I{} sh -c '[ -e "{}" ] && printf "%s\0" "{}"' |
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
