#!/bin/sh
# Run when the root is complete, for the one with SELinux: makes it enforce, adds what Debian's policy lacks (the second
# argument), and gives every file its label, which a machine without SELinux can do as well as one that has it.
set -eu
root="$1"
cat >"$root/etc/selinux/config" <<'END'
SELINUX=enforcing
SELINUXTYPE=default
END
# It runs as systemd_networkd_t, which that policy lets make no directory in /run/systemd; the kernel's command line has
# nothing for it.
systemctl --quiet --root "$root" mask systemd-network-generator.service
cp "$2" "$root/lab.cil"
chroot "$root" semodule --noreload --store default --install /lab.cil
rm "$root/lab.cil"
chroot "$root" setfiles -F /etc/selinux/default/contexts/files/file_contexts /
