#!/bin/sh
# Run by mmdebstrap before the packages other than the essential ones: what their installation should find.
set -eu
root="$1"
# An initial RAM disk with the root's drivers only: an emulated processor takes seconds to unpack a full one.
mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/modules.d"
printf 'MODULES=list\nCOMPRESS=gzip\nBUSYBOX=n\n' >"$root/etc/initramfs-tools/conf.d/lab"
printf 'virtio_pci\nvirtio_blk\next4\n' >"$root/usr/share/initramfs-tools/modules.d/lab"
