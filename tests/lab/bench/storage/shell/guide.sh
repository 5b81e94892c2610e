#!/bin/sh
# The guide's steps 2 to 12, typed. A step that would do harm when it is typed again asks first. The settings are the
# bench's, so that all contestants end with the same: the guide's own share is open to everybody.
set -eu
disk=@disk@
rule='rule family="ipv4" source address="192.168.2.0/24" port port="445" protocol="tcp" accept'

# The data disk.
blkid "$disk" >/dev/null || mkfs.xfs -q -L data "$disk"
mkdir -p /mnt/data
grep -q ' /mnt/data ' /etc/fstab || echo 'LABEL=data /mnt/data xfs defaults,nofail 0 0' >>/etc/fstab
mountpoint -q /mnt/data || mount /mnt/data

# The firewall.
firewall-cmd --quiet --permanent --add-rich-rule="$rule"
firewall-cmd --quiet --reload

# The account and its directory.
id user1 >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin user1
cat /root/share.password /root/share.password | smbpasswd -s -a user1
mkdir -p /mnt/data/shared_folder
chown user1:user1 /mnt/data/shared_folder
chmod 2770 /mnt/data/shared_folder

# The application.
if [ -d /srv/checkout ]; then
	git -C /srv/checkout pull --quiet
else
	git clone --quiet --branch main /srv/ablestack-docs-sample.git /srv/checkout
fi
cp -r /srv/checkout/linux-3tier-example/. /mnt/data/shared_folder
chown -R user1:user1 /mnt/data/shared_folder
chmod -R u=rwX,g=rwX,o= /mnt/data/shared_folder

# The share.
cat >/etc/samba/user1.conf <<'END'
@share.conf@
END
grep -q '/etc/samba/user1.conf' /etc/samba/smb.conf || echo 'include = /etc/samba/user1.conf' >>/etc/samba/smb.conf
systemctl --quiet enable smbd
if systemctl --quiet is-active smbd; then
	systemctl reload smbd
else
	systemctl start smbd
fi
