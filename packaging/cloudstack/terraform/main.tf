# The guide's tier on Apache CloudStack: affinity group, three VMs, data disk, internal balancer. For sites whose tools
# sign as their server does: ABLESTACK Mold takes HmacSHA256 signatures only, and this provider makes HMAC-SHA1. On Mold
# use wasagent-mold, which makes the key pair, too, and starts the storage VM with its disk.
terraform {
  required_providers {
    cloudstack = {
      source  = "cloudstack/cloudstack"
      version = ">= 0.7.0-rc1, < 0.8.0" # the internal balancer came with 0.7.0-rc1
    }
  }
}

variable "zone" { type = string }
variable "template" { type = string }
variable "network_id" { type = string }
variable "keypair" { type = string }
variable "offering" { type = string }
variable "disk_offering" { type = string }
variable "disk_size" {
  type    = number
  default = 100
}
variable "name" {
  type    = string
  default = "linux-3tier-was"
}
variable "storage_address" {
  type    = string
  default = "192.168.2.13" # share.server of the tier file
}
variable "was_addresses" {
  type    = list(string)
  default = ["192.168.2.11", "192.168.2.12"]
}
variable "balancer_address" {
  type    = string
  default = "192.168.2.26"
}
variable "port" {
  type    = number
  default = 5000 # was.container.publish of the tier file
}
# What `wasagent userdata --role storage` and `--role was` print. It holds no secret unless --embed-secrets was given.
variable "storage_user_data" { type = string }
variable "was_user_data" { type = string }

resource "cloudstack_affinity_group" "was" {
  name        = "${var.name}-anti-affinity"
  type        = "host anti-affinity" # strict; the storage VM is not in it
  description = "WAS VMs: no two on one host"
}

resource "cloudstack_instance" "storage" {
  name             = "${var.name}-storage"
  display_name     = "${var.name}-storage"
  zone             = var.zone
  template         = var.template
  service_offering = var.offering
  network_id       = var.network_id
  ip_address       = var.storage_address
  keypair          = var.keypair
  user_data        = var.storage_user_data
}

resource "cloudstack_disk" "data" {
  name               = "${var.name}-data"
  zone               = var.zone
  disk_offering      = var.disk_offering
  size               = var.disk_size
  attach             = true
  virtual_machine_id = cloudstack_instance.storage.id

  lifecycle {
    prevent_destroy = true # the tier's data
  }
}

resource "cloudstack_instance" "was" {
  count = length(var.was_addresses)

  name               = format("%s-%02d", var.name, count.index + 1)
  display_name       = format("%s-%02d", var.name, count.index + 1)
  zone               = var.zone
  template           = var.template
  service_offering   = var.offering
  network_id         = var.network_id
  ip_address         = var.was_addresses[count.index]
  keypair            = var.keypair
  user_data          = var.was_user_data
  affinity_group_ids = [cloudstack_affinity_group.was.id]
}

resource "cloudstack_loadbalancer" "was" {
  name                     = "${var.name}-lb"
  algorithm                = "leastconn"
  scheme                   = "Internal"
  networkid                = var.network_id
  sourceipaddressnetworkid = var.network_id
  sourceipaddress          = var.balancer_address
  sourceport               = var.port
  instanceport             = var.port
  virtualmachineids        = cloudstack_instance.was[*].id
}
