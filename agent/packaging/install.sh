#!/bin/sh
# Installs or updates the agent on a Debian-like system with systemd.
#   install.sh --binary ./fleet-agent --server nats://fleet.example.com:4222 [--device ID] [--ca-file ca.pem]
# It may be run again at any time; a configuration that is there is kept.
set -eu

usage() { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
fail() { echo "install.sh: $*" >&2; exit 1; }

binary='' server='' device='' ca=''
while [ $# -gt 0 ]; do
  case $1 in
    --binary|--server|--device|--ca-file) [ $# -ge 2 ] || usage ;;
    *) usage ;;
  esac
  case $1 in
    --binary) binary=$2 ;;
    --server) server=$2 ;;
    --device) device=$2 ;;
    --ca-file) ca=$2 ;;
  esac
  shift 2
done

here=$(cd "$(dirname "$0")" && pwd)
config=/etc/fleet-agent/config.yaml
[ "$(id -u)" -eq 0 ] || fail "run it as root: sudo $0 …"
command -v systemctl >/dev/null || fail "this system has no systemd"
[ -n "$binary" ] || usage
[ -x "$binary" ] || fail "--binary $binary is not an executable"
[ -n "$server" ] || [ -e "$config" ] || fail "--server is missing, and there is no $config yet"
[ -z "$ca" ] || [ -r "$ca" ] || fail "--ca-file $ca can't be read"

# helper reports whether podman finds one of its helpers.
helper() {
  command -v "$1" >/dev/null && return
  for dir in /usr/libexec/podman /usr/lib/podman /usr/local/libexec/podman /usr/local/lib/podman; do
    [ ! -x "$dir/$1" ] || return 0
  done
  return 1
}
# lacking names the packages that are not there. Podman works without most of them
# until the first pod: that needs catatonit, its network netavark and iptables, and
# names in it aardvark-dns.
lacking() {
  for name in podman catatonit netavark aardvark-dns iptables; do
    helper "$name" || echo "$name"
  done
}
missing=$(lacking | xargs)
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null || fail "missing: $missing; install them, then run this again"
  echo "installing $missing" >&2
  apt-get update -q >&2
  # shellcheck disable=SC2086 # one word each
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing >&2
  missing=$(lacking | xargs)
  [ -z "$missing" ] || fail "still missing after the installation: $missing"
fi
# The unit names it in full.
[ -x /usr/bin/podman ] || fail "podman is not at /usr/bin/podman but at $(command -v podman): install the distribution's"
version=$(podman --version) && version=${version##* }
case $version in
  [0-3].*) fail "podman is $version; the agent needs 4.0 or later" ;;
esac
getent passwd fleet-agent >/dev/null ||
  useradd --system --user-group --home-dir /var/lib/fleet-agent --shell /usr/sbin/nologin fleet-agent

install -D -m 0755 "$binary" /usr/local/bin/fleet-agent.new
mv /usr/local/bin/fleet-agent.new /usr/local/bin/fleet-agent
install -d -m 0755 /etc/fleet-agent
[ -z "$ca" ] || install -m 0644 "$ca" /etc/fleet-agent/ca.pem
if [ ! -e "$config" ]; then
  {
    [ -z "$device" ] || echo "device: $device"
    echo "nats:"
    echo "  url: $server"
    [ -z "$ca" ] || echo "  caFile: /etc/fleet-agent/ca.pem"
  } >"$config.new"
  chmod 0644 "$config.new"
  mv "$config.new" "$config"
fi
FLEET_AGENT_CONFIG=$config /usr/local/bin/fleet-agent validate-config >&2

# Before the service runs: the key that is printed is the one that it will have.
install -d -m 0711 -o fleet-agent -g fleet-agent /var/lib/fleet-agent
key=$(runuser -u fleet-agent -- env FLEET_AGENT_CONFIG="$config" /usr/local/bin/fleet-agent identity)

for unit in fleet-agent.service fleet-agent-podman.service fleet-agent-podman.socket; do
  install -D -m 0644 "$here/$unit" "/etc/systemd/system/$unit"
done
# Of an earlier installation, which had the agent use podman's own socket.
rm -f /etc/systemd/system/podman.socket.d/fleet-agent.conf
systemctl daemon-reload
systemctl enable --quiet fleet-agent-podman.socket fleet-agent.service
systemctl restart fleet-agent-podman.socket fleet-agent.service

echo "installed; the fleet has to know this device by its public key:" >&2
echo "$key"
