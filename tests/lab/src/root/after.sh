#!/bin/sh
# Run by mmdebstrap when all packages are installed: from an installed Debian to a fresh VM of the WAS subnet.
# The second argument is the file with the lab's public key.
set -eu
root="$1"

# A name server that never answers makes smbd hang 20 s on each new connection: there is none, and names are here.
rm -f "$root/etc/resolv.conf"
: >"$root/etc/resolv.conf"
cat >"$root/etc/hosts" <<'END'
127.0.0.1 localhost
192.168.2.1 gateway
192.168.2.11 was-01
192.168.2.12 was-02
192.168.2.13 was-storage
192.168.2.26 balancer
END
echo guest >"$root/etc/hostname"

mkdir -p -m 700 "$root/root/.ssh"
cp "$2" "$root/root/.ssh/authorized_keys"
chown root:root "$root/root/.ssh/authorized_keys"
chmod 600 "$root/root/.ssh/authorized_keys"
rm -f "$root/etc/motd"

# Pulls of docker.io reach the lab's own registry.
mkdir -p "$root/etc/containers/registries.conf.d"
cat >"$root/etc/containers/registries.conf.d/lab.conf" <<'END'
[[registry]]
prefix = "docker.io"
location = "docker.io"

[[registry.mirror]]
location = "192.168.2.1:5001"
insecure = true
END

# User-Mode Linux names its cards vecN; a test finds them under the names that QEMU's have.
for pair in vec0:ens3 vec1:ens4; do
	printf '[Match]\nOriginalName=%s\n\n[Link]\nName=%s\n' "${pair%:*}" "${pair#*:}" \
		>"$root/etc/systemd/network/10-${pair%:*}.link"
done

# The way in for the lab, on a link of its own: it stays when a test cuts the guest off. lab.management= may say another
# address.
cat >"$root/etc/systemd/network/10-management.network" <<'END'
[Match]
Name=ens4

[Network]
Address=10.0.2.15/24
LinkLocalAddressing=no
IPv6AcceptRA=no
END

install -m 755 /dev/stdin "$root/usr/local/sbin/lab-identity" <<'END'
#!/bin/sh
# lab-identity NAME ADDRESS/PREFIX INTERFACE: makes this guest the one that the test asked for, now and at every boot.
set -eu
echo "$1" >/etc/hostname
hostname "$1"
grep -q " $1\$" /etc/hosts || echo "127.0.1.1 $1" >>/etc/hosts
cat >/etc/systemd/network/20-service.network <<EOF
[Match]
Name=$3

[Network]
Address=$2
LinkLocalAddressing=no
IPv6AcceptRA=no
EOF
END
install -m 755 /dev/stdin "$root/usr/local/sbin/lab-boot" <<'END'
#!/bin/sh
# The same at boot, from lab.name= and lab.address= on the kernel's command line.
set -eu
for word in $(cat /proc/cmdline); do
	case $word in
	lab.name=*) name=${word#*=} ;;
	lab.address=*) address=${word#*=} ;;
	lab.management=*) sed -i "s,^Address=.*,Address=${word#*=}," /etc/systemd/network/10-management.network ;;
	esac
done
exec /usr/local/sbin/lab-identity "$name" "$address" ens3
END
cat >"$root/etc/systemd/system/lab-boot.service" <<'END'
[Unit]
Description=Name and address of this guest
DefaultDependencies=no
After=systemd-remount-fs.service
Before=network-pre.target systemd-networkd.service cloud-init-local.service
Wants=network-pre.target
ConditionVirtualization=vm
ConditionKernelCommandLine=lab.name

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/lab-boot

[Install]
WantedBy=sysinit.target
END
echo 'LABEL=root / ext4 defaults 0 1' >"$root/etc/fstab"

# As a fresh storage guest: Samba is there, nothing of it runs. Timers would disturb measurements.
systemctl --root "$root" --quiet disable smbd.service nmbd.service getty@tty1.service
systemctl --root "$root" --quiet mask samba-ad-dc.service nmbd.service winbind.service \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer man-db.timer \
	logrotate.timer xfs_scrub_all.timer e2scrub_reap.service systemd-networkd-wait-online.service \
	systemd-pstore.service getty@tty1.service serial-getty@ttyS0.service systemd-firstboot.service
systemctl --root "$root" --quiet enable systemd-networkd.service firewalld.service ssh.service lab-boot.service
# What podman brings along and a WAS VM does not use.
for unit in podman.service podman.socket podman-auto-update.timer podman-auto-update.service podman-restart.service \
	netavark-dhcp-proxy.socket netavark-dhcp-proxy.service; do
	systemctl --root "$root" --quiet disable "$unit" 2>/dev/null || true
done
if [ -d "$root/etc/cloud" ]; then
	# The lab gives the addresses; the seed gives the rest. The other data sources are not asked.
	printf 'network: {config: disabled}\ndatasource_list: [ NoCloud, CloudStack ]\n' >"$root/etc/cloud/cloud.cfg.d/99-lab.cfg"
fi
# The packages have done what systemd does at the first boot after an update (systemd-update-done.service(8)).
touch "$root/etc/.updated" "$root/var/.updated"
