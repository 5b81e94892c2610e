
# Secrets. They are wiped from cloud-init's copies below, and at every boot, because cloud-init writes its copies anew.
# wasagent secrets begin
@FILES@
# wasagent secrets end
mkdir -p /var/lib/cloud/scripts/per-boot
{
    sed -n '1s/^#! */#!/p' "$(command -v cloud-init)"
    cat <<'wasagent-end'
@WIPE@
wasagent-end
} >/var/lib/cloud/scripts/per-boot/wasagent-wipe
chmod 0700 /var/lib/cloud/scripts/per-boot/wasagent-wipe
/var/lib/cloud/scripts/per-boot/wasagent-wipe ||
    echo "wasagent first boot: the secrets could not be wiped from what cloud-init keeps below /var/lib/cloud" >&2
