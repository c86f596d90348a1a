#!/bin/sh
# Installs or updates the agent on a Debian-like system with systemd.
#   install.sh --binary ./fleet-agent --server tls://fleet.example.com:4222 [--token-file FILE|- | --fingerprint F]
#              [--device ID] [--ca-file ca.pem] [--rootful]
# With a join token, or the fingerprint of the operator for a device whose key is in Git,
# the device joins the fleet. It may be run again at any time; a configuration that is
# there is kept. Containers are run by a rootless podman of the agent's user, or with
# --rootful by root's.
set -eu

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
fail() { echo "install.sh: $*" >&2; exit 1; }

binary='' server='' device='' ca='' token='' fingerprint='' rootful=''
while [ $# -gt 0 ]; do
  case $1 in
    --rootful) rootful=yes; shift; continue ;;
    --binary|--server|--device|--ca-file|--token-file|--fingerprint) [ $# -ge 2 ] || usage ;;
    *) usage ;;
  esac
  case $1 in
    --binary) binary=$2 ;;
    --server) server=$2 ;;
    --device) device=$2 ;;
    --ca-file) ca=$2 ;;
    --token-file) token=$2 ;;
    --fingerprint) fingerprint=$2 ;;
  esac
  shift 2
done

here=$(cd "$(dirname "$0")" && pwd)
config=/etc/fleet-agent/config.yaml
home=/var/lib/fleet-agent
socket=unix:///run/fleet-agent/podman.sock # of --rootful
[ "$(id -u)" -eq 0 ] || fail "run it as root: sudo $0 …"
command -v systemctl >/dev/null || fail "this system has no systemd"
[ -n "$binary" ] || usage
[ -x "$binary" ] || fail "--binary $binary is not an executable"
[ -n "$server" ] || [ -e "$config" ] || fail "--server is missing, and there is no $config yet"
[ ! -e /usr/bin/fleet-agent ] || fail "the Debian package has installed the agent: update that, or remove it first"
[ -z "$ca" ] || [ -r "$ca" ] || fail "--ca-file $ca can't be read"
[ -z "$token" ] || [ "$token" = - ] || [ -r "$token" ] || fail "--token-file $token can't be read"

# Containers of one podman and of the other would be in each other's way.
if [ -n "$rootful" ]; then
  [ ! -e "$config" ] || grep -q "$socket" "$config" ||
    fail "--rootful needs these lines in $config: podman: {socket: '$socket'}"
else
  [ ! -e /etc/systemd/system/fleet-agent-podman.socket ] ||
    fail "root's podman runs this device's containers: say --rootful to go on so; to change, remove its pods and /etc/systemd/system/fleet-agent-podman.* first"
fi

# helper reports whether podman finds one of its helpers.
helper() {
  command -v "$1" >/dev/null && return
  for dir in /usr/libexec/podman /usr/lib/podman /usr/local/libexec/podman /usr/local/lib/podman; do
    [ ! -x "$dir/$1" ] || return 0
  done
  return 1
}
# lacking names the packages that are not there. Podman works without most of them
# until the first pod: that needs catatonit; root's network netavark and iptables, and
# names in it aardvark-dns; a rootless one slirp4netns, its users uidmap, and its limits
# on memory and processors a session of systemd's.
lacking() {
  for name in podman catatonit; do helper "$name" || echo "$name"; done
  if [ -n "$rootful" ]; then
    for name in netavark aardvark-dns iptables; do helper "$name" || echo "$name"; done
    return
  fi
  helper slirp4netns || echo slirp4netns
  helper newuidmap || echo uidmap
  [ -e /usr/lib/systemd/user/dbus.socket ] || echo dbus-user-session
  ls /lib/*/security/pam_systemd.so >/dev/null 2>&1 || ls /usr/lib/security/pam_systemd.so >/dev/null 2>&1 || echo libpam-systemd
}
missing=$(lacking | xargs)
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null || fail "missing: $missing; install them, then run this again"
  echo "installing $missing" >&2
  apt-get update -q </dev/null >&2 # standard input may be the token
  # shellcheck disable=SC2086 # one word each
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing </dev/null >&2
  missing=$(lacking | xargs)
  [ -z "$missing" ] || fail "still missing after the installation: $missing"
fi
# The unit names it in full.
[ -x /usr/bin/podman ] || fail "podman is not at /usr/bin/podman but at $(command -v podman): install the distribution's"
version=$(podman --version) && version=${version##* }
case $version in
  [0-3].*) fail "podman is $version; the agent needs 4.0 or later" ;;
esac

# Before the service runs, and as its user: it has to be able to read what it is to trust.
"$here/setup.sh" user
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
    [ -z "$rootful" ] || echo "podman: {socket: '$socket'}"
  } >"$config.new"
  chmod 0644 "$config.new"
  mv "$config.new" "$config"
fi
FLEET_AGENT_CONFIG=$config /usr/local/bin/fleet-agent validate-config >&2

agent() { runuser -u fleet-agent -- env FLEET_AGENT_CONFIG="$config" /usr/local/bin/fleet-agent "$@"; }
# join has the device join; who waits for approval has joined. The token is given by
# standard input, for its file may be root's alone.
join() {
  status=0
  agent join --no-wait ${server:+--server "$server"} "$@" || status=$?
  [ "$status" -eq 0 ] || [ "$status" -eq 3 ] || fail "the device has not joined the fleet; what is wrong is above, and this may be run again"
}
case $token in
  '') [ -z "$fingerprint" ] || join --fingerprint "$fingerprint" ;;
  -) join --token-file - ${fingerprint:+--fingerprint "$fingerprint"} ;;
  *) join --token-file - ${fingerprint:+--fingerprint "$fingerprint"} <"$token" ;;
esac
key=$(agent identity)

install -m 0644 "$here/fleet-agent.service" /etc/systemd/system/fleet-agent.service
if [ -n "$rootful" ]; then
  install -m 0644 "$here/fleet-agent-podman.service" "$here/fleet-agent-podman.socket" /etc/systemd/system/
  systemctl daemon-reload
  systemctl enable --quiet fleet-agent-podman.socket
  systemctl restart fleet-agent-podman.socket
else
  "$here/setup.sh" rootless
  systemctl daemon-reload
fi
systemctl enable --quiet fleet-agent.service
if [ -e "$home/trust.json" ]; then
  systemctl restart fleet-agent.service
  echo "installed; this device's public key is" >&2
else
  echo "installed; run this again with --token-file or --fingerprint to have the device join a fleet. Its public key is" >&2
fi
echo "$key"
