#!/bin/sh
# Run by mmdebstrap after the rest, for the root with cloud-init: a template as CloudStack has them.
set -eu
root="$1"
# A root without translations has no locale to set, and cloud-init counts that as a failure of the whole stage.
echo 'locale: false' >"$root/etc/cloud/cloud.cfg.d/98-lab-locale.cfg"
# All three that CloudStack's VMs may get their user data from. A virtual router is known by its name, since the lab gives
# the addresses and no lease names one. The kernel of User-Mode Linux has no DMI, by which cloud-init's generator knows
# CloudStack, so it does not ask.
echo 'datasource_list: [ NoCloud, ConfigDrive, CloudStack, None ]' >"$root/etc/cloud/cloud.cfg.d/99-sources.cfg"
echo 'policy: enabled' >"$root/etc/cloud/ds-identify.cfg"
echo '192.168.2.1 data-server' >>"$root/etc/hosts"
