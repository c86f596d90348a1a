# Runs a libvirtd in a mount namespace in which libvirt's directories are those under $1,
# as it is told to on standard input, and ends with it.
set -eu
root=$1
for pair in run:/run/libvirt lib:/var/lib/libvirt etc:/etc/libvirt log:/var/log/libvirt; do
	mkdir -p "$root/${pair%%:*}"
	mount --bind "$root/${pair%%:*}" "${pair#*:}"
done
mkdir -p "$root/log/qemu" # which comes with libvirt's package
virtlogd --config "$root/virtlogd.conf" --pid-file "$root/virtlogd.pid" </dev/null >>"$root/shell.log" 2>&1 &
logd=$!
daemon=
echo ready

end() { # signal, process
	kill "-$1" "$2" 2>/dev/null || true
	kill -CONT "$2" 2>/dev/null || true
	wait "$2" 2>/dev/null || true
}

while read -r command; do
	case $command in
	start)
		libvirtd --config "$root/libvirtd.conf" --pid-file "$root/libvirtd.pid" </dev/null >>"$root/shell.log" 2>&1 &
		daemon=$!
		;;
	freeze) kill -STOP "$daemon" ;;
	thaw) kill -CONT "$daemon" ;;
	kill)
		[ -z "$daemon" ] || end KILL "$daemon"
		daemon=
		;;
	esac
	echo "$command"
done

[ -z "$daemon" ] || end TERM "$daemon"
# libvirtd leaves machines and networks running. Those that are there now are there since
# the test was killed.
for file in "$root"/run/qemu/*.pid "$root"/run/network/*.pid; do
	[ -f "$file" ] || continue
	pid=$(cat "$file")
	if grep -qE '^(qemu|dnsmasq)' "/proc/$pid/comm" 2>/dev/null; then
		kill -KILL "$pid" || true
	fi
done
# stp is on for the bridges that libvirt has made, and not said for those of the host.
sed -n "s/.*<bridge name='\([^']*\)' stp='on'.*/\1/p" "$root"/run/network/*.xml 2>/dev/null |
	while read -r bridge; do
		ip link delete "$bridge" 2>/dev/null || true
	done
end TERM "$logd"
