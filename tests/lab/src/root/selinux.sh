#!/bin/sh
# Run when the root is complete, for those with SELinux: makes it enforce, adds what Debian's policy lacks (the modules of
# all further arguments), and gives every file its label, which a machine without SELinux can do as well as one that has it.
set -eu
root="$1"
shift
cat >"$root/etc/selinux/config" <<'END'
SELINUX=enforcing
SELINUXTYPE=default
END
# It runs as systemd_networkd_t, which that policy lets make no directory in /run/systemd; the kernel's command line has
# nothing for it.
systemctl --quiet --root "$root" mask systemd-network-generator.service
mkdir "$root/modules"
cp "$@" "$root/modules/"
chroot "$root" sh -c 'semodule --noreload --store default --install /modules/*.cil'
rm -r "$root/modules"
# podman makes it with its parent's label.
mkdir -p "$root/var/lib/containers"
# bookworm's setfiles(8) labels a file by its name in /proc, and neither labels anything where it finds there that the
# machine has no SELinux (-m).
unshare --mount sh -eu -c '
	mount -t proc none "$1/proc"
	chroot "$1" setfiles -F -m -e /proc /etc/selinux/default/contexts/files/file_contexts /
' sh "$root"
