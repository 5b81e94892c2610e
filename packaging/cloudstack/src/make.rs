//! Looks each thing up by its name, and makes what is missing. Nothing is changed or removed: where something of the
//! name is otherwise than the files say, that is an error.

use std::io::Write;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::api::{Client, Parameters};
use crate::plan::{Plan, Vm};
use crate::site::{Disk, KeyPair};

/// CloudStack's name of the strict kind: no two of the group on one host.
const STRICT: &str = "host anti-affinity";
const ALGORITHM: &str = "leastconn";

/// Makes what the plan asks for and is not there. With `dry_run` it only prints the calls.
///
/// # Errors
/// The API refuses a call; something has the name of what is to be made, and is not that.
pub fn make(client: &Client, plan: &Plan, dry_run: bool, out: &mut dyn Write) -> Result<()> {
    Making {
        client,
        plan,
        dry_run,
        out,
    }
    .all()
}

struct Making<'a> {
    client: &'a Client,
    plan: &'a Plan,
    dry_run: bool,
    out: &'a mut dyn Write,
}

/// What a VM is made of, by ids.
struct Ground {
    zone: String,
    template: String,
    network: String,
}

impl Making<'_> {
    fn all(&mut self) -> Result<()> {
        let site = &self.plan.site;
        let zone = self.known(
            "listZones",
            "zone",
            &site.zone,
            parameters([("available", "true")]),
        )?;
        let in_zone = || parameters([("zoneid", zone.as_str())]);
        let mut templates = in_zone();
        templates.extend(parameters([
            ("templatefilter", "executable"),
            ("name", &site.template),
        ]));
        let template = self.known("listTemplates", "template", &site.template, templates)?;
        let mut networks = in_zone();
        networks.extend(parameters([("keyword", site.network.as_str())]));
        let network = self.known("listNetworks", "network", &site.network, networks)?;
        let ground = Ground {
            zone,
            template,
            network,
        };

        if let Some(pair) = &site.key_pair {
            self.key_pair(pair)?;
        }
        let group = self.affinity_group(&site.affinity_group)?;
        let storage = self.vm(&self.plan.storage, &ground, None)?;
        if let Some(disk) = &site.storage.disk {
            self.disk(disk, &storage, &ground)?;
        }
        self.start(&self.plan.storage, &storage)?;
        let mut was = Vec::new();
        for vm in &self.plan.was {
            let id = self.vm(vm, &ground, Some(&group))?;
            self.start(vm, &id)?;
            was.push(id);
        }
        self.balancer(&was, &ground)
    }

    fn key_pair(&mut self, pair: &KeyPair) -> Result<()> {
        let lookup = parameters([("name", pair.name.as_str())]);
        if self
            .find("listSSHKeyPairs", "sshkeypair", &pair.name, lookup)?
            .is_some()
        {
            return self.there("key pair", &pair.name);
        }
        let key = self.plan.public_key.as_ref().with_context(|| {
            format!("there is no key pair {}: register it, or name its public_key_file in the site file", pair.name)
        })?;
        let call = parameters([("name", pair.name.as_str()), ("publickey", key)]);
        self.change("registerSSHKeyPair", call, &pair.name)
            .map(drop)
    }

    fn affinity_group(&mut self, name: &str) -> Result<String> {
        let lookup = parameters([("name", name)]);
        if let Some(group) = self.find("listAffinityGroups", "affinitygroup", name, lookup)? {
            let kind = text(&group, "type");
            ensure!(
                kind == STRICT,
                "the affinity group {name} is of the type {kind:?}, not {STRICT:?}: name another in the site file"
            );
            self.there("affinity group", name)?;
            return id(&group);
        }
        let call = parameters([
            ("name", name),
            ("type", STRICT),
            ("description", "WAS VMs: no two on one host"),
        ]);
        self.create("createAffinityGroup", call, name)
    }

    /// The id of a VM, which is made if there is none. The storage VM is made without being started: its disk comes
    /// first.
    fn vm(&mut self, vm: &Vm, ground: &Ground, group: Option<&str>) -> Result<String> {
        if let Some(found) = self.find_vm(vm)? {
            let network = list(&found, "nic").iter().any(|nic| {
                text(nic, "networkid") == ground.network
                    && ["ipaddress", "ip6address"]
                        .iter()
                        .any(|key| text(nic, key).parse() == Ok(vm.address))
            });
            ensure!(
                network,
                "there is a VM {} without the address {} in the network {}: remove it, or name another in the site file",
                vm.name,
                vm.address,
                self.plan.site.network
            );
            let grouped = group.is_none_or(|group| {
                list(&found, "affinitygroup")
                    .iter()
                    .any(|other| text(other, "id") == group)
            });
            ensure!(
                grouped,
                "the VM {} is not in the affinity group {}: stop it, change its affinity group, and run this again",
                vm.name,
                self.plan.site.affinity_group
            );
            self.there("VM", &vm.name)?;
            return id(&found);
        }
        let offerings = parameters([("name", vm.offering.as_str())]);
        let offering = self.known(
            "listServiceOfferings",
            "serviceoffering",
            &vm.offering,
            offerings,
        )?;
        let address = vm.address.to_string();
        let mut call = parameters([
            ("name", vm.name.as_str()),
            ("displayname", &vm.name),
            ("zoneid", &ground.zone),
            ("templateid", &ground.template),
            ("serviceofferingid", &offering),
            ("iptonetworklist[0].networkid", &ground.network),
            (
                if vm.address.is_ipv4() {
                    "iptonetworklist[0].ip"
                } else {
                    "iptonetworklist[0].ipv6"
                },
                &address,
            ),
            ("startvm", "false"),
            ("userdata", &vm.user_data),
        ]);
        if let Some(pair) = &self.plan.site.key_pair {
            call.extend(parameters([("keypair", pair.name.as_str())]));
        }
        if let Some(group) = group {
            call.extend(parameters([("affinitygroupids", group)]));
        }
        self.create("deployVirtualMachine", call, &vm.name)
    }

    /// The VM with its name, once nothing is being done with it.
    fn find_vm(&mut self, vm: &Vm) -> Result<Option<Value>> {
        let begun = Instant::now();
        loop {
            let lookup = parameters([("name", vm.name.as_str())]);
            let found = self.find("listVirtualMachines", "virtualmachine", &vm.name, lookup)?;
            match found.as_ref().map(|found| text(found, "state")) {
                Some(state @ ("Starting" | "Stopping" | "Migrating")) => {
                    ensure!(
                        begun.elapsed() < self.client.longest,
                        "the VM {} is in the state {state} for {} minutes: see why in CloudStack's events, have it stopped or started there, and run this again",
                        vm.name,
                        self.client.longest.as_secs() / 60
                    );
                    thread::sleep(self.client.poll);
                }
                Some("Error") => bail!(
                    "the VM {} could not be made (state Error): see the reason in CloudStack's events, remove it with expunge, and run this again",
                    vm.name
                ),
                _ => return Ok(found),
            }
        }
    }

    fn start(&mut self, vm: &Vm, id: &str) -> Result<()> {
        let found = self.find_vm(vm)?;
        if found.is_some_and(|found| text(&found, "state") == "Running") {
            return Ok(());
        }
        self.change("startVirtualMachine", parameters([("id", id)]), &vm.name)
            .map(drop)
    }

    fn disk(&mut self, disk: &Disk, vm: &str, ground: &Ground) -> Result<()> {
        let lookup = parameters([("name", disk.name.as_str()), ("zoneid", &ground.zone)]);
        let found = self.find("listVolumes", "volume", &disk.name, lookup)?;
        let owner = found
            .as_ref()
            .map(|volume| text(volume, "virtualmachineid").to_owned());
        let volume = match (&found, owner.as_deref()) {
            (Some(_), Some(owner)) if owner == vm => return self.there("disk", &disk.name),
            (Some(volume), Some("")) => id(volume)?,
            (Some(volume), _) => bail!(
                "the disk {} is attached to the VM {}",
                disk.name,
                text(volume, "vmname")
            ),
            (None, _) => self.new_disk(disk, ground)?,
        };
        let call = parameters([("id", volume.as_str()), ("virtualmachineid", vm)]);
        self.change("attachVolume", call, &disk.name).map(drop)
    }

    fn new_disk(&mut self, disk: &Disk, ground: &Ground) -> Result<String> {
        let offerings = parameters([("name", disk.offering.as_str())]);
        let offering = self.known(
            "listDiskOfferings",
            "diskoffering",
            &disk.offering,
            offerings,
        )?;
        let mut call = parameters([
            ("name", disk.name.as_str()),
            ("zoneid", &ground.zone),
            ("diskofferingid", &offering),
        ]);
        if let Some(size) = disk.size {
            call.push(("size".to_owned(), size.to_string()));
        }
        self.create("createVolume", call, &disk.name)
    }

    fn balancer(&mut self, was: &[String], ground: &Ground) -> Result<()> {
        let balancer = &self.plan.site.balancer;
        let (address, (port, instance_port)) = (balancer.address.to_string(), self.plan.ports);
        let (source_port, instance_port) = (port.to_string(), instance_port.to_string());
        let lookup = parameters([
            ("name", balancer.name.as_str()),
            ("networkid", &ground.network),
        ]);
        let found = self.find("listLoadBalancers", "loadbalancer", &balancer.name, lookup)?;
        let (id, serves) = match found {
            Some(found) => {
                let rule = list(&found, "loadbalancerrule")
                    .first()
                    .cloned()
                    .unwrap_or_default();
                let is = [
                    text(&found, "sourceipaddress").to_owned(),
                    number(&rule, "sourceport"),
                    number(&rule, "instanceport"),
                    text(&found, "algorithm").to_owned(),
                ];
                let wanted = [address, source_port, instance_port, ALGORITHM.to_owned()];
                ensure!(
                    is == wanted,
                    "the balancer {} is {}, not {}: remove it, or name another in the site file",
                    balancer.name,
                    is.join(" "),
                    wanted.join(" ")
                );
                self.there("balancer", &balancer.name)?;
                let serves = list(&found, "loadbalancerinstance")
                    .iter()
                    .map(|vm| text(vm, "id").to_owned());
                (id(&found)?, serves.collect())
            }
            None => {
                let call = parameters([
                    ("name", balancer.name.as_str()),
                    ("algorithm", ALGORITHM),
                    ("scheme", "Internal"),
                    ("networkid", &ground.network),
                    ("sourceipaddressnetworkid", &ground.network),
                    ("sourceipaddress", &address),
                    ("sourceport", &source_port),
                    ("instanceport", &instance_port),
                ]);
                (
                    self.create("createLoadBalancer", call, &balancer.name)?,
                    Vec::new(),
                )
            }
        };
        let missing: Vec<_> = was
            .iter()
            .filter(|vm| !serves.contains(vm))
            .map(String::as_str)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let call = parameters([
            ("id", id.as_str()),
            ("virtualmachineids", &missing.join(",")),
        ]);
        self.change("assignToLoadBalancerRule", call, &balancer.name)
            .map(drop)
    }

    /// The one thing of a name that a list command finds. Such a command may find more than what has exactly the name.
    fn find(
        &mut self,
        command: &str,
        member: &str,
        name: &str,
        mut lookup: Parameters,
    ) -> Result<Option<Value>> {
        // These belong to everybody.
        let shared = ["listZones", "listServiceOfferings", "listDiskOfferings"];
        if let Some(project) = self.project().filter(|_| !shared.contains(&command)) {
            lookup.push(project);
        }
        let mut found = self.client.list(command, member, &lookup)?;
        found.retain(|thing| {
            text(thing, "name") == name
                && !["Destroyed", "Expunging", "Expunged", "Destroy"]
                    .contains(&text(thing, "state"))
        });
        ensure!(
            found.len() < 2,
            "{} of the kind {member} have the name {name}: rename all but one",
            found.len()
        );
        Ok(found.pop())
    }

    /// The id of what is to be there before this program runs.
    fn known(
        &mut self,
        command: &str,
        member: &str,
        name: &str,
        lookup: Parameters,
    ) -> Result<String> {
        let found = self.find(command, member, name, lookup)?;
        id(&found.with_context(|| {
            format!("there is no {member} with the name {name}, or these keys may not see it")
        })?)
    }

    /// Calls a command that makes something, and returns its id.
    fn create(&mut self, command: &str, call: Parameters, name: &str) -> Result<String> {
        let answer = self.change(command, call, name)?;
        if self.dry_run {
            return Ok(format!("(id of {name})"));
        }
        let made = answer.as_object().into_iter().flat_map(Map::values);
        let made = made.filter_map(|thing| thing["id"].as_str());
        let id = made.into_iter().find(|id| !id.is_empty());
        let id = id.with_context(|| format!("{command}: the API's answer for {name} has no id; run this again, which looks it up"))?;
        Ok(id.to_owned())
    }

    /// Calls a command that changes something, and returns its answer.
    fn change(&mut self, command: &str, mut call: Parameters, name: &str) -> Result<Value> {
        // Whatever names a thing by its id finds it in its project.
        let by_id = [
            "attachVolume",
            "startVirtualMachine",
            "assignToLoadBalancerRule",
            "createLoadBalancer",
        ];
        if let Some(project) = self.project().filter(|_| !by_id.contains(&command)) {
            call.push(project);
        }
        let shown: Vec<_> = call
            .iter()
            .map(|(key, value)| format!(" {key}={}", shown(key, value)))
            .collect();
        writeln!(self.out, "{command}{}", shown.concat())?;
        if self.dry_run {
            return Ok(Value::Null);
        }
        self.client
            .call(command, &call)
            .with_context(|| name.to_owned())
    }

    fn project(&self) -> Option<(String, String)> {
        let id = self.plan.site.project_id.clone()?;
        Some(("projectid".to_owned(), id))
    }

    fn there(&mut self, kind: &str, name: &str) -> Result<()> {
        Ok(writeln!(self.out, "{kind} {name} is there")?)
    }
}

/// A value as it is printed: user data may hold what others should not read.
fn shown(key: &str, value: &str) -> String {
    match key {
        "userdata" => format!("({} characters)", value.len()),
        _ if value.contains(' ') => format!("{value:?}"),
        _ => value.to_owned(),
    }
}

fn parameters<const N: usize>(pairs: [(&str, &str); N]) -> Parameters {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_default()
}

/// A number, which some versions of the API write as a text.
fn number(value: &Value, member: &str) -> String {
    match &value[member] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list<'v>(value: &'v Value, member: &str) -> &'v [Value] {
    value[member].as_array().map_or(&[], Vec::as_slice)
}

fn id(value: &Value) -> Result<String> {
    let id = value["id"].as_str().filter(|id| !id.is_empty());
    Ok(id.context("the API gives no id")?.to_owned())
}
