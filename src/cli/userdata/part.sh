#!/bin/sh
# Written by wasagent userdata: makes this VM the tier's @ROLE@.
# Writes the tier file and a unit that installs wasagent and applies the role, and starts the unit. The unit tries until
# it has succeeded once, over reboots too. This script reports the first try to cloud-init.
set -eu
umask 077

install -d -m 0755 /etc/wasagent
{
@TIER@
} >/etc/wasagent/tier.toml.new
mv /etc/wasagent/tier.toml.new /etc/wasagent/tier.toml
@SECRETS@
cat >/etc/wasagent/first-boot <<'wasagent-end'
@FIRST_BOOT@
wasagent-end
cat >/etc/systemd/system/wasagent-first-boot.service <<'wasagent-end'
@UNIT@
wasagent-end
chmod 0644 /etc/systemd/system/wasagent-first-boot.service

systemctl daemon-reload
systemctl enable --quiet wasagent-first-boot.service
# cloud-init runs this script once: what it wrote has to outlive a power cut.
sync
if ! systemctl start wasagent-first-boot.service; then
    journalctl --boot --unit=wasagent-first-boot.service --output=cat --lines=60 --no-pager || true
    echo "wasagent first boot: the first try failed, as is said above; it is tried again every minute:" \
        "journalctl -u wasagent-first-boot, wasagent health" >&2
    exit 1
fi
