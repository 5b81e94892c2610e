#!/bin/sh
# What the four units of cloud-init run at a boot, one after the other.
set -eu
cloud-init init --local
cloud-init init
cloud-init modules --mode=config
cloud-init modules --mode=final
