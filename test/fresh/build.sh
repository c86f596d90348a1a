# Builds the archive $1 of a system with the packages $2 of release $3, in which the packages
# $4 lie ready to be installed, with the user $5.
set -eu
archive=$1 included=$2 release=$3 packages=$4 user=$5
work=$(mktemp -d "${archive%/*}/build-XXXXXX")
trap 'rm -rf "$work"' EXIT
sources=
if grep -q "VERSION_CODENAME=$release" /etc/os-release; then
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [ -e "$file" ] && sources=$file && break
  done
fi
cat >"$work/hook" <<'HOOK'
#!/bin/sh
set -eu
root=$1
# Packages with all that they need, as a source that is a folder.
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install -qy --download-only --no-install-recommends $PACKAGES
mkdir -p "$root/srv/packages"
mv "$root"/var/cache/apt/archives/*.deb "$root/srv/packages/"
cd "$root/srv/packages"
for file in *.deb; do
  dpkg-deb -f "$file"
  echo "Filename: ./$file"
  echo "Size: $(stat -c %s "$file")"
  echo "SHA256: $(sha256sum <"$file" | cut -d' ' -f1)"
  echo
done >Packages
rm -rf "$root"/etc/apt/sources.list.d/* "$root"/var/lib/apt/lists/*
echo 'deb [trusted=yes] file:/srv/packages ./' >"$root/etc/apt/sources.list"
chroot "$root" useradd --create-home --shell /bin/bash "$FRESH_USER"
echo "$FRESH_USER ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/$FRESH_USER"
chmod 0440 "$root/etc/sudoers.d/$FRESH_USER"
mkdir -p "$root/etc/ssh/authorized"
cat >"$root/etc/ssh/sshd_config.d/fresh.conf" <<CONF
HostKey /etc/ssh/fleet/id_ed25519
AuthorizedKeysFile /etc/ssh/authorized/%u
PasswordAuthentication no
UseDNS no
CONF
chroot "$root" systemctl mask apt-daily.timer apt-daily-upgrade.timer systemd-resolved.service
: >"$root/etc/machine-id"
echo fresh >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 fresh\n' >"$root/etc/hosts"
HOOK
chmod 0700 "$work/hook"
PACKAGES=$packages FRESH_USER=$user TMPDIR=$work mmdebstrap --quiet --mode=root --variant=minbase --format=tar --include="$included" \
  --aptopt='Acquire::Languages none' --dpkgopt=force-unsafe-io --customize-hook="$work/hook" "$release" "$work/root.tar" $sources
mv "$work/root.tar" "$archive"
