#!/usr/bin/env bash
# Installs the Debian packages that demo and tests need and that are missing; with the
# argument "machines" those that virtual machines need beside.
set -euo pipefail

# command:packages, so that a machine that has the commands from elsewhere is left alone.
wanted=(git:git podman:podman runc:runc iptables:iptables nft:nftables ip:iproute2 newuidmap:uidmap slirp4netns:slirp4netns systemd-analyze:systemd script:bsdutils
  /usr/lib/podman/netavark:netavark /usr/lib/podman/aardvark-dns:aardvark-dns
  /usr/libexec/podman/catatonit:catatonit)
case ${1:-} in
'') ;;
machines)
  # What runs them, and what an image for them is made with.
  wanted=("libvirtd:libvirt-daemon-system libvirt-daemon-driver-qemu" qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils dnsmasq:dnsmasq-base
    iptables:iptables ip:iproute2 mmdebstrap:mmdebstrap /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
    mke2fs:e2fsprogs grub-mkimage:grub-common /usr/lib/grub/i386-pc/boot.img:grub-pc-bin xz:xz-utils zstd:zstd)
  ;;
*)
  echo "test/deps.sh: $1 is not known; say machines, or nothing" >&2
  exit 2
  ;;
esac

PATH=$PATH:/usr/sbin:/sbin # where Debian keeps daemons, and a user's PATH does not look
missing=()
for pair in "${wanted[@]}"; do
  have=${pair%%:*}
  # shellcheck disable=SC2206 # one word each
  command -v "$have" >/dev/null 2>&1 || [ -e "$have" ] || missing+=(${pair##*:})
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
