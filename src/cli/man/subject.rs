//! Which page of the manual says more about a kind of resource. Errors name it.

use crate::engine::{Address, Kind};

/// The page on the tier file.
pub const TIER_FILE: &str = "wasagent-tier.toml(5)";

/// The pages on these resources, each once.
pub fn pages_on<'a>(resources: impl IntoIterator<Item = &'a Address>) -> Vec<&'static str> {
    let mut pages = Vec::new();
    for page in resources
        .into_iter()
        .filter_map(|address| page_on(address.kind))
    {
        if !pages.contains(&page) {
            pages.push(page);
        }
    }
    pages
}

/// Mounts, files and units are of several subjects.
fn page_on(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Disk => "wasagent-disk(7)",
        Kind::Directory | Kind::Account | Kind::SambaUser | Kind::Label | Kind::Firewall => {
            "wasagent-share(7)"
        }
        Kind::Content => "wasagent-content(7)",
        Kind::Image | Kind::Container => "wasagent-container(7)",
        Kind::Mount | Kind::File | Kind::Unit | Kind::Secret => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_that_an_error_names_is_one() {
        let kinds = [
            Kind::Disk,
            Kind::Label,
            Kind::Firewall,
            Kind::Content,
            Kind::Container,
            Kind::File,
        ];
        let resources = kinds.map(|kind| Address::new(kind, "x"));
        let named = pages_on(&resources);
        assert_eq!(named.len(), 4, "{named:?}");
        let all: Vec<String> = super::super::pages()
            .iter()
            .map(|page| format!("{}({})", page.name, page.section))
            .collect();
        for page in named.into_iter().chain([TIER_FILE]) {
            assert!(all.iter().any(|known| known == page), "{page}");
        }
    }
}
