"""The storage VM: `pyinfra @local deploy.py`."""

from pathlib import Path

from pyinfra.operations import files, git, server, systemd

DISK = "@disk@"
RULE = (
    'rule family="ipv4" source address="192.168.2.0/24" port port="445" protocol="tcp" accept'
)
PASSWORD = Path("/root/share.password").read_text().rstrip("\n")

# pyinfra has no operation for file systems, firewalld and Samba's accounts.
server.shell(
    name="The data disk has a file system",
    commands=f"blkid {DISK} || mkfs.xfs -q -L data {DISK}",
)

files.directory(name="The mount point", path="/mnt/data")

files.line(
    name="The data disk is mounted at every boot",
    path="/etc/fstab",
    line="LABEL=data /mnt/data xfs defaults,nofail 0 0",
)

server.mount(
    name="The data disk is mounted",
    path="/mnt/data",
    device="LABEL=data",
    fs_type="xfs",
)

server.shell(
    name="The WAS VMs reach the share, now and after a boot",
    commands=[
        f"firewall-cmd {when} --query-rich-rule='{RULE}' || firewall-cmd {when} --add-rich-rule='{RULE}'"
        for when in ("", "--permanent")
    ],
)

server.user(
    name="The account that owns the files",
    user="user1",
    system=True,
    ensure_home=False,
    shell="/usr/sbin/nologin",
)

server.shell(
    name="The account's password in Samba",
    commands="smbpasswd -s -a user1",
    _stdin=[PASSWORD, PASSWORD],
)

files.directory(
    name="The directory that is shared",
    path="/mnt/data/shared_folder",
    user="user1",
    group="user1",
    mode="2770",
)

git.repo(
    name="The application's sources",
    src="/srv/ablestack-docs-sample.git",
    dest="/srv/checkout",
    branch="main",
)

files.rsync(
    name="The application in the share",
    src="/srv/checkout/linux-3tier-example/",
    dest="/mnt/data/shared_folder/",
    flags=["-a", "--chown=user1:user1", "--chmod=D2770,F0660"],
)

share = files.put(
    name="The share",
    src="/root/bench/share.conf",
    dest="/etc/samba/user1.conf",
    mode="644",
)

include = files.line(
    name="Samba knows the share",
    path="/etc/samba/smb.conf",
    line="include = /etc/samba/user1.conf",
)

systemd.service(
    name="Samba runs, now and at every boot",
    service="smbd.service",
    running=True,
    enabled=True,
)

systemd.service(
    name="Samba reads its configuration again",
    service="smbd.service",
    reloaded=True,
    _if=lambda: share.did_change() or include.did_change(),
)
