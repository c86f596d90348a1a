#!/usr/bin/env bash
# Runs a command as root: podmans with networks of their own need it. Whoever is not
# root is asked by sudo before anything is built, and not after ten minutes.
set -euo pipefail

[ "$(id -u)" -eq 0 ] && exec "$@"

# sudo cleans the environment. What the go command downloads with goes along; its
# caches don't, because root's files in them would stand in the user's way.
vars=("PATH=$PATH")
for name in KEEP http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE; do
  if [ -n "${!name:-}" ]; then vars+=("$name=${!name}"); fi
done
if command -v go >/dev/null 2>&1; then
  for name in GOPROXY GONOPROXY GOSUMDB GONOSUMDB GOPRIVATE GOTOOLCHAIN GOFLAGS; do
    vars+=("$name=$(go env $name)")
  done
fi

if ! command -v sudo >/dev/null 2>&1; then
  printf 'this needs root, and there is no sudo. As root:\n  cd %q && env' "$PWD" >&2
  printf ' %q' "${vars[@]}" "$@" >&2
  echo >&2
  exit 1
fi
echo "this needs root: going on with sudo" >&2
exec sudo env "${vars[@]}" "$@"
