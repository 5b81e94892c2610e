#!/bin/sh
# Run once by cloud-init on a guest of a cloud image: from somebody's EL9 or Debian to a fresh VM of the WAS subnet.
# It brings what the image lacks; what is there already is left alone.
set -eu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

cat >>/etc/hosts <<'HOSTS'
192.168.2.1 gateway
192.168.2.11 was-01
192.168.2.12 was-02
192.168.2.13 was-storage
192.168.2.26 balancer
HOSTS

# Pulls of docker.io reach the lab's own registry.
mkdir -p /etc/containers/registries.conf.d
cat >/etc/containers/registries.conf.d/lab.conf <<'REGISTRY'
[[registry]]
prefix = "docker.io"
location = "docker.io"

[[registry.mirror]]
location = "192.168.2.1:5001"
insecure = true
REGISTRY

missing=
# need PROGRAM PACKAGES: the packages are wanted where the program is not there.
need() {
	command -v "$1" >/dev/null || missing="$missing $2"
}
need mount.cifs cifs-utils
need firewall-cmd firewalld
need git git
need mkfs.xfs xfsprogs
need nft nftables
need smbd samba
need strace strace
if command -v dnf >/dev/null; then
	need podman podman
	need semanage policycoreutils-python-utils
	need smbclient samba-client
	# A minimal image has the core of the kernel's modules only, and cifs is not one of them.
	modprobe --dry-run --quiet cifs || missing="$missing kernel-modules-$(uname -r)"
	[ -z "$missing" ] || dnf --assumeyes install $missing
else
	# netavark calls `nft` (bookworm's: `iptables`), which no package pulls in.
	need podman "podman crun netavark aardvark-dns iptables"
	need smbclient smbclient
	if [ -n "$missing" ]; then
		export DEBIAN_FRONTEND=noninteractive
		# Somebody else's first boot may be installing as well: wait for the lock instead of failing.
		apt-get -q -o DPkg::Lock::Timeout=300 update
		apt-get -q -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends $missing
	fi
fi

# As a fresh storage guest: Samba is there, nothing of it runs. Debian starts it when it is installed.
for unit in smb smbd nmb nmbd winbind samba-ad-dc; do
	systemctl disable --now --quiet "$unit.service" 2>/dev/null || true
done
systemctl enable --now --quiet firewalld.service
