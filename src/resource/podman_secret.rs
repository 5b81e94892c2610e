//! A secret of the application, in podman's store. It is in no unit, in no argument list and in nothing that podman
//! shows of a container.

use crate::config::Secret;
use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::host::podman::secret::{self, StoredSecret};

/// A secret that podman has.
#[derive(Debug, Clone)]
pub struct PodmanSecret {
    pub name: String,
    pub value: Secret,
}

impl Resource for PodmanSecret {
    type Observed = Option<StoredSecret>;

    fn address(&self) -> Address {
        Address::new(Kind::Secret, &self.name)
    }

    fn requirements(&self) -> Vec<Requirement> {
        vec![Requirement::Program("podman")]
    }

    async fn observe(&self, _host: &Host) -> Result<Self::Observed> {
        secret::look_up(&self.name).await
    }

    fn diff(&self, observed: &Self::Observed) -> Result<Diff> {
        let Some(found) = observed else {
            let mut diff = Diff::create("podman does not have the secret");
            diff.secret("value", false);
            return Ok(diff);
        };
        if !found.is_ours {
            return Err(Error::new(format!(
                "podman has a secret {} that wasagent did not make",
                self.name
            ))
            .hint(format!(
                "if nobody needs it, podman secret rm {}, and apply again",
                self.name
            )));
        }
        let mut diff = Diff::update("podman has another value than the tier file");
        if found.value.as_slice() != self.value.expose().as_bytes() {
            diff.secret("value", true);
        }
        Ok(diff)
    }

    fn guide(&self, _diff: &Diff) -> Vec<GuideStep> {
        // The guide writes such a value into `podman run`.
        Vec::new()
    }

    async fn converge(&self, step: &Step, _observed: &Self::Observed) -> Result<()> {
        let value = self.value.expose().as_bytes().to_vec();
        step.set_secret(&self.name, value.into()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_somebody_else_is_left_and_no_value_is_shown() {
        let wanted = PodmanSecret {
            name: "a.TOKEN.secret".to_owned(),
            value: Secret::new("hunter2".to_owned()),
        };
        let found = |value: &str, is_ours| {
            let value = value.as_bytes().to_vec().into();
            Some(StoredSecret {
                value,
                is_ours,
                set: None,
            })
        };
        let diff = wanted.diff(&found("hunter1", true)).unwrap();
        assert!(diff.changes("value") && !format!("{diff:?}").contains("hunter"));
        assert!(wanted.diff(&found("hunter2", true)).unwrap().is_empty());
        assert!(wanted.diff(&None).unwrap().changes("value"));
        let refused = wanted.diff(&found("hunter2", false)).unwrap_err();
        assert!(refused.message.contains("did not make") && refused.hint.is_some());
    }
}
