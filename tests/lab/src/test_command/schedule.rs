//! Which test is begun next: the longest that the machine has room for, by what it took when it was measured.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::kind::Kind;

/// What each test took, on a machine of two processors. `cargo lab test` writes the same about its own run, to be put
/// here when the tests have changed.
const MEASURED: &str = include_str!("measured.json");

/// What one test takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// From its start to its end.
    pub seconds: f64,
    /// Of processors, the guests' own included.
    pub processor: f64,
    /// How many guests of which kind it boots: `container`, `uml`, `tcg`, `kvm`.
    pub guests: BTreeMap<String, u64>,
}

impl Cost {
    /// How many processors it keeps busy.
    pub fn load(&self) -> f64 {
        if self.seconds > 0.0 {
            (self.processor / self.seconds).max(0.1)
        } else {
            1.0
        }
    }

    /// Whether it boots guests of this kind.
    pub fn boots(&self, kind: &str) -> bool {
        self.guests.contains_key(kind)
    }

    /// `2 uml, 1 container`.
    pub fn guests_in_words(&self) -> String {
        let words = self
            .guests
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"));
        words.collect::<Vec<_>>().join(", ")
    }

    /// The same where guests that were measured on User-Mode Linux run on another kind.
    pub fn on(mut self, kind: Kind) -> Cost {
        if kind != Kind::Uml
            && let Some(count) = self.guests.remove(&Kind::Uml.to_string())
        {
            *self.guests.entry(kind.to_string()).or_insert(0) += count;
            if kind == Kind::Tcg {
                // Each keeps a processor busy, and most of it.
                self.processor = self.seconds * (count as f64).max(self.load());
            }
        }
        self
    }

    fn read(value: &Value) -> Option<Cost> {
        let guests = value["guests"].as_object()?;
        Some(Cost {
            seconds: value["seconds"].as_f64()?,
            processor: value["processor"].as_f64()?,
            guests: guests
                .iter()
                .filter_map(|(kind, count)| Some((kind.clone(), count.as_u64()?)))
                .collect(),
        })
    }

    fn json(&self) -> Value {
        json!({ "seconds": self.seconds.round(), "processor": self.processor.round(), "guests": self.guests })
    }
}

/// The measured costs, by `TARGET::TEST`.
pub fn measured() -> Result<BTreeMap<String, Cost>> {
    read(MEASURED).context("tests/lab/src/test_command/measured.json")
}

fn read(text: &str) -> Result<BTreeMap<String, Cost>> {
    let all: Value = serde_json::from_str(text)?;
    let all = all.as_object().context("it holds no object")?;
    all.iter()
        .map(|(name, value)| {
            let cost = Cost::read(value).with_context(|| format!("{name}: {value}"))?;
            Ok((name.clone(), cost))
        })
        .collect()
}

/// The same text for costs of another run: a line a test.
pub fn written(costs: &BTreeMap<String, Cost>) -> String {
    let lines: Vec<String> = costs
        .iter()
        .map(|(name, cost)| format!("  {}: {}", json!(name), cost.json()))
        .collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// What guests start from, which takes minutes to build on a fresh machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready {
    /// The roots of all releases.
    pub roots: bool,
    /// The kernel of User-Mode Linux.
    pub kernel: bool,
    /// The saved states of QEMU's guests.
    pub states: bool,
}

impl Ready {
    fn is_enough(self, cost: Option<&Cost>) -> bool {
        match cost {
            Some(cost) => {
                let restores = cost.boots("tcg") || cost.boots("kvm");
                (self.roots || cost.guests.is_empty())
                    && (self.kernel || !cost.boots("uml"))
                    && (self.states || !restores)
            }
            // Nobody knows what a new test boots.
            None => self.roots && self.kernel && self.states,
        }
    }
}

/// The position of the test to begin, of those that wait, which are in order; none where one must end first, or
/// something be ready. `free`: processors that nobody keeps busy. `idle`: no test runs.
pub fn next(waiting: &[Option<Cost>], free: f64, idle: bool, ready: Ready) -> Option<usize> {
    let mut begins = waiting
        .iter()
        .enumerate()
        .filter(|(_, cost)| ready.is_enough(cost.as_ref()));
    let fits = |cost: &Option<Cost>| cost.as_ref().map_or(1.0, Cost::load) <= free;
    let found = begins.clone().find(|(_, cost)| fits(cost));
    // What is larger than the machine runs alone.
    let alone = || if idle { begins.next() } else { None };
    found.or_else(alone).map(|(position, _)| position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(load: f64, guests: &[(&str, u64)]) -> Option<Cost> {
        let guests = guests
            .iter()
            .map(|(kind, count)| ((*kind).to_owned(), *count));
        Some(Cost {
            seconds: 100.0,
            processor: 100.0 * load,
            guests: guests.collect(),
        })
    }

    const ALL: Ready = Ready {
        roots: true,
        kernel: true,
        states: true,
    };

    #[test]
    fn the_first_that_fits_is_begun() {
        let waiting = [cost(1.8, &[]), cost(0.9, &[]), cost(0.4, &[])];
        assert_eq!(next(&waiting, 2.0, true, ALL), Some(0));
        assert_eq!(next(&waiting, 1.0, false, ALL), Some(1));
        assert_eq!(next(&waiting, 0.5, false, ALL), Some(2));
        assert_eq!(next(&waiting, 0.2, false, ALL), None);
        // Nothing would ever be begun.
        assert_eq!(next(&waiting, 0.2, true, ALL), Some(0));
    }

    #[test]
    fn a_test_waits_for_what_its_guests_start_from() {
        let waiting = [
            cost(0.5, &[("tcg", 3)]),
            cost(0.5, &[("uml", 1)]),
            None,
            cost(0.5, &[("container", 1)]),
        ];
        let ready = |kernel, states| Ready {
            roots: true,
            kernel,
            states,
        };
        assert_eq!(next(&waiting, 2.0, true, ready(false, false)), Some(3));
        assert_eq!(next(&waiting, 2.0, true, ready(true, false)), Some(1));
        assert_eq!(next(&waiting, 2.0, true, ready(false, true)), Some(0));
        assert_eq!(next(&waiting[2..3], 2.0, true, ready(true, true)), Some(0));
        assert_eq!(next(&waiting[..1], 2.0, true, ready(true, false)), None);
        let nothing = Ready::default();
        assert_eq!(next(&waiting, 2.0, true, nothing), None);
        assert_eq!(next(&[cost(0.5, &[])], 2.0, true, nothing), Some(0));
    }

    #[test]
    fn an_emulated_guest_keeps_a_processor_busy() {
        let measured = cost(0.8, &[("uml", 3), ("container", 1)]).unwrap();
        assert_eq!(measured.clone().on(Kind::Uml), measured);
        let emulated = measured.on(Kind::Tcg);
        assert_eq!(emulated.load(), 3.0);
        assert!(emulated.boots("tcg") && !emulated.boots("uml"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let costs = BTreeMap::from([("soak::a".to_owned(), cost(0.5, &[("uml", 2)]).unwrap())]);
        assert_eq!(read(&written(&costs)).unwrap(), costs);
        assert!(measured().is_ok());
        assert!(read("{\"a\": 3}").is_err());
    }
}
