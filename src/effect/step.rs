//! The work on one resource, and the gate that all of it passes on its way to the machine. The
//! previous state is recorded before an effect happens, and the outcome of the effect after it.
//!
//! The methods that each kind of effect adds to a step are in the file of that kind.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::history::{self, Recorded};
use super::{Address, Effect, Field, Ledger};
use crate::error::Result;
#[cfg(feature = "failpoints")]
use crate::host::failpoint;
use crate::host::sha256::Sha256;
use crate::host::{Host, Permit, blocking};

/// Receives the progress of long work on a resource.
pub type Progress = Arc<dyn Fn(&Address, String) + Send + Sync>;

/// Work on one resource. Reads go straight to the [`Host`] that the step dereferences to.
pub struct Step {
    host: Arc<Host>,
    ledger: Arc<Ledger>,
    progress: Progress,
    address: Address,
    undoes: bool,
    /// Fields that became known only by the change itself.
    learned: Mutex<Vec<Field>>,
    /// How often each effect was begun, so that every fail point has a name of its own.
    begun: Mutex<HashMap<String, u32>>,
}

impl Deref for Step {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Step {
    pub fn new(
        host: &Arc<Host>,
        ledger: &Arc<Ledger>,
        progress: &Progress,
        address: Address,
    ) -> Self {
        Self {
            host: Arc::clone(host),
            ledger: Arc::clone(ledger),
            progress: Arc::clone(progress),
            address,
            undoes: false,
            learned: Mutex::default(),
            begun: Mutex::default(),
        }
    }

    /// Work that undoes what was done for the resource.
    pub fn undoing(self) -> Self {
        Self {
            undoes: true,
            ..self
        }
    }

    /// Work of the same run on another resource.
    pub fn for_resource(&self, address: &Address) -> Self {
        Self {
            undoes: self.undoes,
            ..Self::new(&self.host, &self.ledger, &self.progress, address.clone())
        }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Reports how far long work is: `3 of 12 layers`.
    pub fn progress(&self, amount: String) {
        (self.progress)(&self.address, amount);
    }

    /// Adds a field to the reported and recorded change that nobody could know before it.
    pub fn learned(&self, name: &str, value: &str) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.retain(|field| field.name != name);
        learned.push(Field {
            name: name.to_owned(),
            from: None,
            to: Some(value.to_owned()),
        });
    }

    pub fn take_learned(&self) -> Vec<Field> {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *learned)
    }

    /// The effects of applies that were killed or failed and that no later run completed, oldest
    /// first.
    pub async fn left_unfinished(&self) -> Result<Vec<Recorded>> {
        let ledger = self.ledger();
        blocking(move || {
            let mut runs = ledger.runs()?;
            runs.retain(|run| Some(run.number) != ledger.number());
            let unfinished = history::without_an_end(&runs).iter();
            Ok(unfinished.flat_map(|run| run.effects.clone()).collect())
        })
        .await
    }

    /// The effects of this run so far, oldest first.
    pub async fn done_so_far(&self) -> Result<Vec<Recorded>> {
        let ledger = self.ledger();
        blocking(move || {
            let mut runs = ledger.runs()?;
            runs.retain(|run| Some(run.number) == ledger.number());
            Ok(runs.into_iter().flat_map(|run| run.effects).collect())
        })
        .await
    }

    pub(super) fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }

    /// Keeps contents for undo.
    pub(super) async fn save(&self, contents: &[u8]) -> Result<Sha256> {
        let (ledger, contents) = (self.ledger(), Zeroizing::new(contents.to_vec()));
        blocking(move || ledger.save(&contents)).await
    }

    /// Returns contents that were kept.
    pub async fn saved(&self, name: &Sha256) -> Result<Zeroizing<Vec<u8>>> {
        let (ledger, name) = (self.ledger(), name.clone());
        blocking(move || ledger.saved(&name)).await
    }

    /// The gate. `act` runs only once `effect`, with all that is needed to undo it, is on record.
    pub async fn effect<'a, T, F>(
        &'a self,
        effect: impl Into<Effect>,
        act: impl FnOnce(Permit) -> F + Send + 'a,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'a,
    {
        // Boxed, so that the gate is compiled once for each result type and not for each effect.
        let act: Act<'a, T> = Box::new(|permit| Box::pin(act(permit)));
        self.pass_gate(effect.into(), act).await
    }

    async fn pass_gate<'a, T>(&'a self, effect: Effect, act: Act<'a, T>) -> Result<T> {
        let name = self.name(&effect);
        let resource = self.address.clone();
        let (ledger, undoes) = (self.ledger(), self.undoes);
        let recorded = effect.clone();
        let number = blocking(move || ledger.begin(&resource, &recorded, undoes)).await?;
        let result = perform(&name, act).await;
        let error = result.as_ref().err().cloned();
        let (happened, left) = match &error {
            Some(_) => (effect.has_happened(&self.host).await, None),
            None => (None, effect.left(&self.host).await),
        };
        let ledger = self.ledger();
        blocking(move || ledger.end(number, error.as_ref(), happened, left)).await?;
        result
    }

    fn name(&self, effect: &Effect) -> String {
        let name = format!("{}|{effect}", self.address);
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let times = begun.entry(name.clone()).or_default();
        *times += 1;
        if *times == 1 {
            name
        } else {
            format!("{name}#{times}")
        }
    }
}

type Act<'a, T> =
    Box<dyn FnOnce(Permit) -> Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>> + Send + 'a>;

async fn perform<T>(name: &str, act: Act<'_, T>) -> Result<T> {
    #[cfg(feature = "failpoints")]
    failpoint::pass(name, failpoint::When::Before)?;
    let value = act(Permit::for_recorded(name)).await?;
    #[cfg(feature = "failpoints")]
    failpoint::pass(name, failpoint::When::After)?;
    Ok(value)
}
