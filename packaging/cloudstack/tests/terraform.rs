//! The Terraform module names no argument that the provider does not have. The provider itself is not run here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A resource by its type and its name, and the arguments that it has.
type Arguments = BTreeMap<(String, String), BTreeSet<String>>;

/// The arguments of each resource of the module, without those of Terraform itself.
fn arguments(module: &str) -> Arguments {
    let mut found = Arguments::new();
    let mut resource = None;
    for line in module.lines() {
        if let Some(rest) = line.strip_prefix("resource \"") {
            let mut words = rest.split('"').step_by(2);
            let word = |word: Option<&str>| word.map(str::to_owned);
            resource = word(words.next()).zip(word(words.next()));
            found.extend(resource.clone().map(|resource| (resource, BTreeSet::new())));
        } else if line == "}" {
            resource = None;
        }
        let argument = line
            .strip_prefix("  ")
            .filter(|rest| !rest.starts_with(' '))
            .and_then(|rest| rest.split_once(" ="));
        if let (Some(resource), Some((name, _))) = (&resource, argument)
            && name.trim() != "count"
        {
            found
                .entry(resource.clone())
                .or_default()
                .insert(name.trim().to_owned());
        }
    }
    found
}

#[test]
fn each_argument_is_one_of_the_provider() {
    let provider: Value =
        serde_json::from_str(include_str!("../api/terraform-provider.json")).unwrap();
    let found = arguments(include_str!("../terraform/main.tf"));
    assert_eq!(found.len(), 5, "{found:?}");
    for ((resource, name), arguments) in found {
        let known = &provider["resources"][&resource];
        let names = |kind: &str| {
            let names = known[kind].as_array().unwrap().iter();
            names
                .map(|name| name.as_str().unwrap().to_owned())
                .collect::<BTreeSet<_>>()
        };
        let (required, optional) = (names("required"), names("optional"));
        assert!(
            required.is_subset(&arguments),
            "{resource} {name} lacks one of {required:?}"
        );
        let all: BTreeSet<_> = required.union(&optional).cloned().collect();
        let unknown: Vec<_> = arguments.difference(&all).collect();
        assert!(unknown.is_empty(), "{resource} {name}: {unknown:?}");
    }
}
