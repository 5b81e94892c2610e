//! The API of CloudStack: signed calls, answers in JSON, jobs that are waited for.

mod keys;
mod sign;
#[cfg(feature = "https")]
mod trust;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::http::StatusCode;

pub use keys::Keys;
pub use sign::Signature;
use sign::{query, signature};

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(120);
/// How long a job may take: a VM is copied from a template that its host may not have yet.
const JOB: Duration = Duration::from_secs(45 * 60);
/// How often a question is asked, if no answer of the API comes.
const TRIES: u32 = 5;

/// The parameters of a call, by name.
pub type Parameters = Vec<(String, String)>;

/// Calls the API with a user's keys.
pub struct Client {
    endpoint: String,
    signature: Signature,
    keys: Keys,
    agent: ureq::Agent,
    /// The time between two questions about a job.
    pub poll: Duration,
    /// How long a job or the start of a VM is waited for.
    pub longest: Duration,
}

impl Client {
    /// A client of an endpoint. `authority` is the PEM text of the certificates that the endpoint's is signed with, where
    /// they are not in Mozilla's list.
    ///
    /// # Errors
    /// The text holds no certificate.
    pub fn new(
        endpoint: &str,
        signature: Signature,
        keys: Keys,
        authority: Option<&str>,
    ) -> Result<Client> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST))
            .http_status_as_error(false);
        #[cfg(feature = "https")]
        let config = match authority {
            Some(text) => config.tls_config(trust::only(text)?),
            None => config,
        };
        #[cfg(not(feature = "https"))]
        anyhow::ensure!(authority.is_none(), "this program was built without https");
        Ok(Client {
            endpoint: endpoint.to_owned(),
            signature,
            keys,
            agent: config.build().into(),
            poll: Duration::from_secs(2),
            longest: JOB,
        })
    }

    /// Calls a command and returns what is in its answer. A job behind it is waited for, and its result returned.
    ///
    /// # Errors
    /// The server cannot be reached, or answers with an error: then its text.
    pub fn call(&self, command: &str, parameters: &Parameters) -> Result<Value> {
        let answer = self
            .ask(command, parameters)
            .with_context(|| command.to_owned())?;
        match answer["jobid"].as_str() {
            Some(job) => self.result(job).with_context(|| command.to_owned()),
            None => Ok(answer),
        }
    }

    /// One call. A question is asked again where the server cannot be reached or has a fault of its own: that may pass.
    /// What changes something is sent once, because it may have been done.
    fn ask(&self, command: &str, parameters: &Parameters) -> Result<Value> {
        let is_question = command.starts_with("list") || command == "queryAsyncJobResult";
        let tries = if is_question { TRIES } else { 1 };
        for _ in 1..tries {
            match self.send(command, parameters) {
                Ok((status, answer)) if !status.is_server_error() => {
                    return self.judged(status, answer);
                }
                _ => thread::sleep(self.poll),
            }
        }
        let (status, answer) = self.send(command, parameters)?;
        self.judged(status, answer)
    }

    /// The answer, unless it says that there is an error.
    fn judged(&self, status: StatusCode, answer: Value) -> Result<Value> {
        if !status.is_success() || answer.get("errorcode").is_some() {
            bail!("{}", told(&answer, self.signature));
        }
        Ok(answer)
    }

    /// One request, signed and sent in a body: user data is too long for an address.
    fn send(&self, command: &str, parameters: &Parameters) -> Result<(StatusCode, Value)> {
        let mut all = parameters.clone();
        for (name, value) in [
            ("command", command),
            ("response", "json"),
            ("apiKey", self.keys.api_key.as_str()),
        ] {
            all.push((name.to_owned(), value.to_owned()));
        }
        let query = query(&all);
        let signature = signature(&query, &self.keys.secret_key, self.signature);
        let body = format!("{query}&signature={}", sign::encoded(&signature));
        let request = self
            .agent
            .post(&self.endpoint)
            .content_type("application/x-www-form-urlencoded");
        let mut response = request
            .send(&body)
            .with_context(|| format!("ask {}", self.endpoint))?;
        let status = response.status();
        let text = response
            .body_mut()
            .read_to_string()
            .with_context(|| format!("read the answer of {}", self.endpoint))?;
        // The one member is named after the command.
        let answer = serde_json::from_str::<Value>(&text)
            .ok()
            .and_then(|answer| answer.as_object()?.values().next().cloned())
            .filter(Value::is_object)
            .with_context(|| {
                format!("{} answers {status}, and nothing that is the API's: is the endpoint right? It ends in /client/api", self.endpoint)
            })?;
        Ok((status, answer))
    }

    /// Waits for a job and returns its result.
    fn result(&self, job: &str) -> Result<Value> {
        let begun = Instant::now();
        let parameters = vec![("jobid".to_owned(), job.to_owned())];
        loop {
            let answer = self.ask("queryAsyncJobResult", &parameters)?;
            match answer["jobstatus"].as_i64() {
                Some(1) => return Ok(answer["jobresult"].clone()),
                Some(0) if begun.elapsed() < self.longest => thread::sleep(self.poll),
                Some(0) => bail!(
                    "job {job} has not ended after {} minutes; run this again",
                    self.longest.as_secs() / 60
                ),
                _ => bail!("{}", told(&answer["jobresult"], self.signature)),
            }
        }
    }

    /// Everything that a list command finds, page by page. `member` is the list's name in the answer.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn list(&self, command: &str, member: &str, parameters: &Parameters) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        for page in 1.. {
            let mut parameters = parameters.clone();
            parameters.push(("page".to_owned(), page.to_string()));
            parameters.push(("pagesize".to_owned(), "100".to_owned()));
            let answer = self.call(command, &parameters)?;
            let items = answer[member].as_array().cloned().unwrap_or_default();
            let last = items.len() < 100;
            found.extend(items);
            if last {
                break;
            }
        }
        Ok(found)
    }
}

/// The API's own words about an error.
fn told(answer: &Value, kind: Signature) -> String {
    let text = answer["errortext"]
        .as_str()
        .unwrap_or("the API gives no reason");
    match (answer["errorcode"].as_i64(), kind) {
        (Some(401), Signature::Sha256) => {
            format!(
                "{text} (401). Are the keys right? Apache CloudStack also needs signature = \"sha1\" in the site file"
            )
        }
        (Some(401), Signature::Sha1) => {
            format!(
                "{text} (401). Are the keys right? ABLESTACK Mold also needs signature = \"sha256\" in the site file"
            )
        }
        (Some(code), _) => format!("{text} ({code})"),
        (None, _) => text.to_owned(),
    }
}
