//! The right to change the machine. Every function of `host` that changes something takes a permit.
//! Only the engine's gate hands one out, after it has recorded the state before the change. So no
//! effect can be missing from the record, nor from the tests that interrupt each effect.

/// Permission for one recorded effect.
#[derive(Debug, Clone)]
pub struct Permit {
    #[cfg(feature = "failpoints")]
    effect: String,
}

impl Permit {
    /// For the gate alone. `effect` is the effect's name among the fail points.
    #[cfg_attr(not(feature = "failpoints"), expect(unused_variables))]
    pub(crate) fn for_recorded(effect: &str) -> Self {
        Self {
            #[cfg(feature = "failpoints")]
            effect: effect.to_owned(),
        }
    }

    /// A fail point within the effect, where a half-done effect would show.
    pub fn during(&self) -> crate::error::Result<()> {
        #[cfg(feature = "failpoints")]
        super::failpoint::pass(&self.effect, super::failpoint::When::During)?;
        Ok(())
    }
}

#[cfg(any(test, feature = "permits-for-tests"))]
impl Permit {
    /// For tests of functions that take a permit.
    pub fn for_a_test() -> Self {
        Self::for_recorded("test")
    }
}

#[cfg(test)]
mod tests {
    /// Exactly one line outside this file hands out permits, and no other where tests are left out.
    #[test]
    fn only_the_gate_hands_out_permits() {
        let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Vec::new();
        let mut directories = vec![sources];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if !path.ends_with("host/permit.rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    found.extend(text.matches("Permit::for_recorded").map(|_| path.clone()));
                }
            }
        }
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("effect/step.rs"));
    }
}
