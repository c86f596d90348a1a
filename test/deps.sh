#!/usr/bin/env bash
# Installs the Debian packages that demo and tests need and that are missing.
set -euo pipefail

# command:package, so that a machine that has the commands from elsewhere is left alone.
wanted=(git:git podman:podman runc:runc iptables:iptables nft:nftables ip:iproute2 newuidmap:uidmap slirp4netns:slirp4netns systemd-analyze:systemd script:bsdutils
  /usr/lib/podman/netavark:netavark /usr/lib/podman/aardvark-dns:aardvark-dns
  /usr/libexec/podman/catatonit:catatonit)

missing=()
for pair in "${wanted[@]}"; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair##*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "missing: ${missing[*]}. Install them with this system's package manager, then try again." >&2
  exit 1
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    echo "missing: ${missing[*]}. As root: apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  echo "installing ${missing[*]} with sudo" >&2
  sudo=(sudo)
fi
log=$(mktemp -t fleet-apt-XXXXXX.log)
echo "installing ${missing[*]}" >&2
if ! { "${sudo[@]}" apt-get update && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "could not install ${missing[*]}; the whole log is $log" >&2
  exit 1
fi
rm -f "$log"
