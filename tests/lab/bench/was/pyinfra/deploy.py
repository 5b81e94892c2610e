"""A WAS VM: `pyinfra @local deploy.py`."""

from io import StringIO
from pathlib import Path

from pyinfra.operations import files, server, systemd

IMAGE = "docker.io/ablecloudteam/nodejs-server:linux-0.1"
OPTIONS = "credentials=/root/.smb.cred,vers=3.1.1,seal,_netdev,nofail"
PASSWORD = Path("/root/share.password").read_text().rstrip("\n")

files.put(
    name="The credentials of the share",
    src=StringIO(f"username=user1\npassword={PASSWORD}\n"),
    dest="/root/.smb.cred",
    mode="600",
)

files.directory(name="The mount point", path="/mnt/data/shared_folder")

files.line(
    name="The share is mounted at every boot",
    path="/etc/fstab",
    line=f"//192.168.2.13/user1 /mnt/data/shared_folder cifs {OPTIONS} 0 0",
)

# Without options: those that mount.cifs reads are not all shown by the kernel, which would mean a new mount each time.
server.mount(
    name="The share is mounted",
    path="/mnt/data/shared_folder",
)

# pyinfra has no operation for podman's images.
server.shell(
    name="The application's image",
    commands=f"podman image exists {IMAGE} || podman pull --quiet {IMAGE}",
)

unit = files.put(
    name="The container's unit",
    src="/root/bench/nodejs-server.service",
    dest="/etc/systemd/system/nodejs-server.service",
    mode="644",
)

systemd.daemon_reload(name="systemd reads the unit", _if=unit.did_change)

systemd.service(
    name="The container runs, now and at every boot",
    service="nodejs-server.service",
    running=True,
    enabled=True,
)

systemd.service(
    name="The container starts anew",
    service="nodejs-server.service",
    restarted=True,
    _if=unit.did_change,
)
