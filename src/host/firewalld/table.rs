//! Reads what firewalld has in force: the zones that are in use, their rules, and what comes before them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::future::try_join_all;
use zbus::OwnedVariant;

use super::rich_rule::RichRule;
use super::zones::{DirectRule, Policy, Rules, Service, Zone, Zones};
use super::{BUS_NAME, Firewalld, failed};
use crate::error::Result;

const PATH: &str = "/org/fedoraproject/FirewallD1";
const CONFIG: &str = "/org/fedoraproject/FirewallD1/config";

/// Settings by their names, as firewalld hands them out.
type Settings = HashMap<String, OwnedVariant>;

/// An active zone's interfaces and sources, an active policy's zones.
type Active = BTreeMap<String, HashMap<String, Vec<String>>>;

/// A direct rule: family, table, chain, priority, arguments.
type Direct = (String, String, String, i32, Vec<String>);

impl Firewalld {
    /// The zones in use with all that decides about packets to this VM, in the runtime settings.
    pub async fn zones_in_force(&self) -> Result<Zones> {
        let (default, active, policies, direct, panics, strict_forward_ports) = tokio::try_join!(
            self.default_zone(),
            self.ask::<_, Active>("zone.getActiveZones", &()),
            self.ask::<_, Active>("policy.getActivePolicies", &()),
            self.ask::<_, Vec<Direct>>("direct.getAllRules", &()),
            self.ask::<_, bool>("queryPanicMode", &()),
            self.is_strict(),
        )?;
        let names: BTreeSet<&String> = active.keys().chain([&default]).collect();
        let zones = names
            .into_iter()
            .map(|name| self.zone_in_force(name, &active));
        let zones = try_join_all(zones).await?;
        let policies = policies.iter().filter(|(_, ends)| {
            let egress = ends.get("egress_zones");
            egress.is_some_and(|zones| zones.iter().any(|zone| zone == "HOST"))
        });
        let policies = policies.map(|(name, ends)| self.policy_in_force(name, ends));
        let policies = try_join_all(policies).await?;
        let direct = direct
            .into_iter()
            .map(|(family, table, chain, _, arguments)| DirectRule {
                family,
                table,
                chain,
                arguments,
            });
        Ok(Zones {
            default,
            zones,
            policies,
            direct: direct.collect(),
            panics,
            strict_forward_ports,
        })
    }

    /// The zone to which an interface is bound in the permanent settings.
    pub async fn permanent_zone_of(&self, interface: &str) -> Result<Option<String>> {
        let zone: String = self.ask("config.getZoneOfInterface", &(interface,)).await?;
        Ok(Some(zone).filter(|zone| !zone.is_empty()))
    }

    /// Whether firewalld takes changes from root's programs: not while it is locked down for others.
    pub async fn takes_changes(&self) -> Result<bool> {
        if !self.ask::<_, bool>("policies.queryLockdown", &()).await? {
            return Ok(true);
        }
        let (root, commands) = tokio::try_join!(
            self.ask::<_, bool>("policies.queryLockdownWhitelistUid", &(0_i32,)),
            self.ask::<_, Vec<String>>("policies.getLockdownWhitelistCommands", &()),
        )?;
        Ok(root || commands.iter().any(|command| command.contains("wasagent")))
    }

    async fn zone_in_force(&self, name: &str, active: &Active) -> Result<Zone> {
        let settings: Settings = self.ask("zone.getZoneSettings2", &(name,)).await?;
        let bound = |kind: &str| {
            let bound = active.get(name).and_then(|zone| zone.get(kind));
            bound.cloned().unwrap_or_default()
        };
        Ok(Zone {
            name: name.to_owned(),
            interfaces: bound("interfaces"),
            sources: bound("sources"),
            ingress_priority: number(&settings, "ingress_priority"),
            rules: self.rules(&settings, "rules_str").await?,
        })
    }

    async fn policy_in_force(
        &self,
        name: &str,
        ends: &HashMap<String, Vec<String>>,
    ) -> Result<Policy> {
        let settings: Settings = self.ask("policy.getPolicySettings", &(name,)).await?;
        let zones = |key: &str| ends.get(key).cloned().unwrap_or_default();
        Ok(Policy {
            name: name.to_owned(),
            priority: number(&settings, "priority"),
            ingress_zones: zones("ingress_zones"),
            egress_zones: zones("egress_zones"),
            rules: self.rules(&settings, "rich_rules").await?,
        })
    }

    async fn rules(&self, settings: &Settings, rich: &str) -> Result<Rules> {
        let texts: Vec<String> = value(settings, rich);
        let rich: Vec<RichRule> = texts.iter().map(|text| RichRule::parse(text)).collect();
        let services: Vec<String> = value(settings, "services");
        let named = rich.iter().filter_map(RichRule::service);
        let (services, named) = tokio::try_join!(
            try_join_all(services.iter().map(|name| self.service(name))),
            try_join_all(named.map(|name| self.service(name))),
        )?;
        Ok(Rules {
            target: value(settings, "target"),
            ports: value(settings, "ports"),
            services,
            protocols: value(settings, "protocols"),
            rich,
            named,
        })
    }

    /// A service with the ports of those that it includes.
    async fn service(&self, name: &str) -> Result<Service> {
        let mut service = Service {
            name: name.to_owned(),
            ports: Vec::new(),
            protocols: Vec::new(),
        };
        let (mut asked, mut to_ask) = (BTreeSet::new(), vec![name.to_owned()]);
        while let Some(name) = to_ask.pop() {
            if !asked.insert(name.clone()) {
                continue;
            }
            let settings = self
                .ask::<_, Settings>("getServiceSettings2", &(&name,))
                .await;
            // A zone may name a service that is no longer there: it opens nothing.
            let Ok(settings) = settings else { continue };
            service.ports.extend(value::<Vec<_>>(&settings, "ports"));
            service
                .protocols
                .extend(value::<Vec<_>>(&settings, "protocols"));
            to_ask.extend(value::<Vec<String>>(&settings, "includes"));
        }
        Ok(service)
    }

    /// `StrictForwardPorts` of firewalld.conf(5); firewalld before 2.3 has no such setting.
    async fn is_strict(&self) -> Result<bool> {
        let properties = zbus::fdo::PropertiesProxy::builder(&self.connection)
            .destination(BUS_NAME)
            .path(CONFIG)
            .build()
            .await
            .map_err(|e| failed("reach firewalld", e))?;
        let interface = zbus::names::InterfaceName::try_from(format!("{BUS_NAME}.config"))
            .map_err(|e| failed("reach firewalld", e))?;
        let strict = properties.get(interface, "StrictForwardPorts").await;
        let strict = strict.ok().and_then(|value| String::try_from(value).ok());
        Ok(strict.as_deref() == Some("yes"))
    }

    /// Calls `METHOD` of firewalld, or `INTERFACE.METHOD` of one of its interfaces.
    async fn ask<A, T>(&self, method: &str, arguments: &A) -> Result<T>
    where
        A: serde::Serialize + zbus::wire::DynamicType + Sync,
        T: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        let doing = || format!("ask firewalld ({method})");
        let (interface, name) = method.rsplit_once('.').unwrap_or(("", method));
        let path = if interface == "config" { CONFIG } else { PATH };
        let interface = match interface {
            "" => BUS_NAME.to_owned(),
            own => format!("{BUS_NAME}.{own}"),
        };
        let answer = self
            .connection
            .call_method(
                Some(BUS_NAME),
                path,
                Some(interface.as_str()),
                name,
                arguments,
            )
            .await
            .map_err(|e| failed(doing(), e))?;
        answer.body().deserialize().map_err(|e| failed(doing(), e))
    }
}

/// A setting; its default where firewalld does not have it.
fn value<T: TryFrom<OwnedVariant> + Default>(settings: &Settings, key: &str) -> T {
    let value = settings.get(key).and_then(|value| value.try_clone().ok());
    value
        .and_then(|value| value.try_into().ok())
        .unwrap_or_default()
}

fn number(settings: &Settings, key: &str) -> i64 {
    value::<i32>(settings, key).into()
}
