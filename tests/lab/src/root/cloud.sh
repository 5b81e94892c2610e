#!/bin/sh
# Run by mmdebstrap after the rest, for the root with cloud-init.
set -eu
# A root without translations has no locale to set, and cloud-init counts that as a failure of the whole stage.
echo 'locale: false' >"$1/etc/cloud/cloud.cfg.d/98-lab-locale.cfg"
