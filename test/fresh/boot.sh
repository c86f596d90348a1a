# Boots the system in $1 with a network of its own by the name $2, whose addresses begin with
# $3, and ends it at the end of standard input.
set -eu
root=$1 name=$2 net=$3
end() {
  [ -z "${system:-}" ] || { kill -KILL "$system" 2>/dev/null || true; wait "$system" 2>/dev/null || true; }
  ip netns delete "$name" 2>/dev/null || true
  ip link delete "$name" 2>/dev/null || true
}
trap end EXIT
ip netns add "$name" >&2
ip link add "$name" type veth peer name host0 netns "$name" >&2
ip address add "$net.1/24" dev "$name"
ip link set "$name" up
ip -n "$name" address add "$net.2/24" dev host0
ip -n "$name" link set host0 up
ip -n "$name" link set lo up
# Its network is its own, so that it may set that up as it likes.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
systemd-nspawn --quiet --register=no --keep-unit --directory="$root" --network-namespace-path="/run/netns/$name" \
  --capability=CAP_NET_ADMIN,CAP_NET_RAW --resolv-conf=off --timezone=off --link-journal=no --console=read-only --boot </dev/null >&2 2>&1 &
system=$!
echo ready
cat >/dev/null
