//! podman's secrets. podman keeps no history of them, so the agent's record has the previous value. Only the value
//! itself shows whether somebody changed it since.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Halt, Past, Reversible, Step, Undo, Undone};
use crate::error::Result;
use crate::host::podman::secret;
use crate::host::sha256::Sha256;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSecret {
    /// The previous value is kept like a file's contents.
    SetSecret {
        name: String,
        before: Option<Sha256>,
        after: Sha256,
    },
    RemoveSecret {
        name: String,
    },
}

impl OnSecret {
    fn name(&self) -> &str {
        match self {
            Self::SetSecret { name, .. } | Self::RemoveSecret { name } => name,
        }
    }

    /// The value before, and the value set.
    fn values(&self) -> Option<(Option<&Sha256>, &Sha256)> {
        match self {
            Self::SetSecret { before, after, .. } => Some((before.as_ref(), after)),
            Self::RemoveSecret { .. } => None,
        }
    }
}

impl fmt::Display for OnSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetSecret { name, .. } => write!(f, "set secret {name}"),
            Self::RemoveSecret { name } => write!(f, "remove secret {name}"),
        }
    }
}

impl Reversible for OnSecret {
    fn target(&self) -> String {
        format!("secret {}", self.name())
    }

    /// Only values that no earlier effect wrote: a replaced password is forgotten.
    fn needed(past: &[Past<'_, Self>]) -> Vec<Sha256> {
        let (mut needed, mut written) = (Vec::new(), Vec::new());
        for (before, after) in past.iter().filter_map(|one| one.effect.values()) {
            needed.extend(before.filter(|before| !written.contains(before)).cloned());
            written.push(after);
        }
        needed
    }

    /// Restores the previous value, if the secret still holds what the agent set.
    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let mut known = past.iter().filter_map(|one| one.effect.values());
        let Some(name) = past.first().map(|first| first.effect.name()) else {
            return Ok(Undone::Already);
        };
        let Some((before, _)) = known.clone().next() else {
            return Ok(Undone::Already);
        };
        let found = secret::look_up(name).await?;
        let now = found.as_ref().map(|found| Sha256::on_record(&found.value));
        let now = now.as_ref();
        if before == now {
            return Ok(Undone::Already);
        }
        let is_known = known.any(|(before, after)| before == now || Some(after) == now);
        // A missing secret may come from the agent's own change that was cut off.
        if found
            .as_ref()
            .is_some_and(|found| !found.is_ours || !is_known)
        {
            return Ok(Undone::Kept(format!(
                "podman's secret {name} was changed by somebody since, and is kept"
            )));
        }
        if let Some(before) = before {
            let value = undo.step.saved(before).await?;
            undo.step.set_secret(name, value).await?;
            return Ok(Undone::Restored("as it was before".to_owned()));
        }
        let effect = Self::RemoveSecret {
            name: name.to_owned(),
        };
        let remove = |permit| async move { secret::remove(&permit, name).await };
        undo.step.effect(effect, remove).await?;
        Ok(Undone::Restored("removed".to_owned()))
    }
}

impl Step {
    /// Sets the value of a podman secret.
    pub async fn set_secret(&self, name: &str, value: Zeroizing<Vec<u8>>) -> Result<()> {
        let found = secret::look_up(name).await?;
        let exists = found.is_some();
        let before = match found {
            None => None,
            Some(found) => Some(self.save(&found.value).await?),
        };
        let effect = OnSecret::SetSecret {
            name: name.to_owned(),
            before,
            after: Sha256::on_record(&value),
        };
        self.effect(effect, |permit| async move {
            secret::set(&permit, name, &value, exists).await
        })
        .await
    }
}
