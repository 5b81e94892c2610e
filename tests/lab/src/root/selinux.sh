#!/bin/sh
# Run when the root is complete, for the one with SELinux: makes it enforce, and gives every file its label, which a
# machine without SELinux can do as well as one that has it.
set -eu
root="$1"
cat >"$root/etc/selinux/config" <<'END'
SELINUX=enforcing
SELINUXTYPE=default
END
chroot "$root" setfiles -F /etc/selinux/default/contexts/files/file_contexts /
