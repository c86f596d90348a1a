#!/bin/sh
# Makes what the agent needs of the system, for install.sh and for the Debian package. It
# may be run again at any time.
#   setup.sh user      the agent's user, and its directory
#   setup.sh rootless  a podman of that user
set -eu

home=/var/lib/fleet-agent

user() {
  getent passwd fleet-agent >/dev/null ||
    useradd --system --user-group --home-dir "$home" --shell /usr/sbin/nologin fleet-agent
  install -d -m 0711 -o fleet-agent -g fleet-agent "$home"
}

# rootless gives the agent's user a podman: other users' numbers for its containers, and
# systemd's session of that user, which has the socket and outlives every login.
rootless() {
  for kind in uid gid; do
    grep -q '^fleet-agent:' "/etc/sub$kind" 2>/dev/null && continue
    touch "/etc/sub$kind"
    first=$(awk -F: 'BEGIN {n = 100000} $2 + $3 > n {n = $2 + $3} END {print n}' /etc/subuid /etc/subgid 2>/dev/null)
    usermod "--add-sub${kind}s" "$first-$((first + 65535))" fleet-agent
  done
  conf=$home/.config/containers/containers.conf
  if [ ! -e "$conf" ]; then
    runuser -u fleet-agent -- mkdir -p "$(dirname "$conf")"
    # A system user may not read the journal, where podman's events are otherwise.
    # Written by that user: root would follow a link that it has put there.
    printf '[engine]\nevents_logger = "file"\n' | runuser -u fleet-agent -- tee "$conf" >/dev/null
  fi
  if [ ! -d /run/systemd/system ]; then
    # Where the image of a device is made, systemd does not run: it finds this at its
    # first boot.
    install -d -m 0755 /var/lib/systemd/linger
    touch /var/lib/systemd/linger/fleet-agent
    runuser -u fleet-agent -- env HOME="$home" SYSTEMD_OFFLINE=1 systemctl --user enable --quiet podman.socket
    return
  fi
  uid=$(id -u fleet-agent)
  loginctl enable-linger fleet-agent
  systemctl start "user@$uid.service"
  runuser -u fleet-agent -- env HOME="$home" XDG_RUNTIME_DIR="/run/user/$uid" systemctl --user enable --quiet --now podman.socket
}

case ${1-} in
  user | rootless) "$1" ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
