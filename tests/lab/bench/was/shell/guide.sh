#!/bin/sh
# The guide's steps 14 to 19, typed. A step that would do harm when it is typed again asks first. The container has no
# privileges, and its unit is the one that all contestants write.
set -eu

# The share.
umask 077
{
	echo username=user1
	echo "password=$(cat /root/share.password)"
} >/root/.smb.cred
umask 022
mkdir -p /mnt/data/shared_folder
grep -q ' /mnt/data/shared_folder ' /etc/fstab ||
	echo '//192.168.2.13/user1 /mnt/data/shared_folder cifs credentials=/root/.smb.cred,vers=3.1.1,seal,_netdev,nofail 0 0' >>/etc/fstab
mountpoint -q /mnt/data/shared_folder || mount /mnt/data/shared_folder

# The container.
podman pull --quiet docker.io/ablecloudteam/nodejs-server:linux-0.1
unit=/etc/systemd/system/nodejs-server.service
cat >"$unit.new" <<'END'
@unit@
END
if cmp -s "$unit.new" "$unit"; then
	rm "$unit.new"
	systemctl --quiet enable --now nodejs-server
else
	mv "$unit.new" "$unit"
	systemctl daemon-reload
	systemctl --quiet enable nodejs-server
	systemctl restart nodejs-server
fi
