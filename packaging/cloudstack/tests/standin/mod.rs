//! A stand-in for CloudStack's API server. It is not CloudStack: it knows the commands that this program calls, keeps
//! what they make in memory, and places no VM anywhere. What it holds a call against is real: the signature, and the
//! names of the parameters as two SDKs of the API have them (`api/*.json`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

pub const API_KEY: &str = "the-api-key";
pub const SECRET_KEY: &str = "the-secret+key/=";

/// The API's commands as Mold's SDK and as CloudStack's have them.
const DEFINITIONS: [&str; 2] = [
    include_str!("../../api/mold.json"),
    include_str!("../../api/cloudstack.json"),
];

/// What goes wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call is refused.
    Refused,
    /// The job behind it fails.
    JobFails,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is done, and the answer does not say what was made.
    NoId,
}

#[derive(Default)]
pub struct State {
    /// Things of a kind, in the order in which they were made.
    pub things: Vec<(String, Value)>,
    /// The calls that changed something, or tried to.
    pub calls: Vec<(String, Map<String, Value>)>,
    /// Which of the calls that change something goes wrong, counted from 0, and how.
    pub fault: Option<(usize, Fault)>,
    /// Of this many questions, one is answered: the others get one of the answers of a server that is ill.
    pub answers_one_of: usize,
    questions: usize,
    /// Results of jobs, and how often each was asked for.
    jobs: Vec<(Value, u32)>,
    sha1: bool,
}

pub struct StandIn {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl StandIn {
    /// A server of a site as the tests' site file has it; with `sha1` it takes CloudStack's signatures.
    pub fn start(sha1: bool) -> StandIn {
        let mut state = State {
            sha1,
            answers_one_of: 1,
            ..State::default()
        };
        for (kind, id, name) in [
            ("zone", "z1", "zone-1"),
            ("template", "t1", "Rocky Linux 9"),
            ("serviceoffering", "o1", "2C-4GB"),
            ("serviceoffering", "o2", "2C-4GB-large"),
            ("diskoffering", "d1", "custom"),
            ("network", "n1", "was"),
        ] {
            state
                .things
                .push((kind.to_owned(), json!({"id": id, "name": name})));
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/client/api", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &shared);
            }
        });
        StandIn { endpoint, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The names of the things of a kind.
    pub fn names(&self, kind: &str) -> Vec<String> {
        let state = self.state();
        let things = state.things.iter().filter(|(other, _)| other == kind);
        things
            .map(|(_, thing)| thing["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// One request on a connection.
fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap_or(0) > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let body = String::from_utf8(body).unwrap();
    if let Some((status, answer)) = state.lock().unwrap().answer(&body) {
        let text = answer.to_string();
        let length = text.len();
        let whole = format!(
            "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
        );
        let _ = stream.write_all(whole.as_bytes());
    }
}

impl State {
    /// Status and answer; none where the answer is lost.
    fn answer(&mut self, body: &str) -> Option<(u16, Value)> {
        let mut call = Map::new();
        for pair in body.split('&') {
            let (name, value) = pair.split_once('=').unwrap();
            let plain = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
            call.insert(plain(name), plain(value).into());
        }
        let command = call["command"].as_str().unwrap().to_owned();
        let member = format!("{}response", command.to_lowercase());
        let error = |code: u16, text: String| {
            Some((
                code,
                json!({&member: {"errorcode": code, "errortext": text}}),
            ))
        };
        if !self.is_signed(body, call["signature"].as_str().unwrap()) || call["apiKey"] != API_KEY {
            return error(
                401,
                "unable to verify user credentials and/or request signature".to_owned(),
            );
        }
        for own in ["command", "signature", "apiKey", "response"] {
            call.remove(own);
        }
        if let Err(why) = DEFINITIONS
            .iter()
            .try_for_each(|text| check(text, &command, &call))
        {
            return error(431, why);
        }
        if command == "queryAsyncJobResult" || command.starts_with("list") {
            self.questions += 1;
            if !self.questions.is_multiple_of(self.answers_one_of) {
                return match self.questions % 3 {
                    0 => None,
                    1 => Some((503, Value::Null)),
                    _ => error(530, "the database is not there".to_owned()),
                };
            }
        }
        if command == "queryAsyncJobResult" {
            let job: usize = call["jobid"].as_str().unwrap().parse().unwrap();
            let (result, asked) = &mut self.jobs[job];
            *asked += 1;
            let status = match (*asked, result.get("errorcode")) {
                (1, _) => json!({"jobstatus": 0}),
                (_, None) => json!({"jobstatus": 1, "jobresult": result}),
                (_, Some(_)) => json!({"jobstatus": 2, "jobresult": result}),
            };
            return Some((200, json!({member: status})));
        }
        if let Some(kind) = command.strip_prefix("list") {
            return Some((200, json!({member: self.list(kind, &call)})));
        }
        let fault = self
            .fault
            .filter(|(number, _)| *number == self.calls.len())
            .map(|(_, fault)| fault);
        self.calls.push((command.clone(), call.clone()));
        match fault {
            Some(Fault::Refused) => return error(533, "no host has room for it".to_owned()),
            Some(Fault::JobFails) => {
                self.jobs.push((
                    json!({"errorcode": 530, "errortext": "the storage pool is full"}),
                    0,
                ));
            }
            _ => match self.change(&command, &call) {
                Ok(result) if command == "registerSSHKeyPair" => {
                    // No job is behind it.
                    return (fault != Some(Fault::AnswerLost))
                        .then(|| (200, json!({member: result})));
                }
                Ok(mut result) => {
                    if fault == Some(Fault::NoId)
                        && let Some(made) = result.as_object_mut().unwrap().values_mut().next()
                        && let Some(made) = made.as_object_mut()
                    {
                        made.remove("id");
                    }
                    self.jobs.push((result, 0));
                }
                Err(why) => return error(431, why),
            },
        }
        if fault == Some(Fault::AnswerLost) {
            return None;
        }
        let job = (self.jobs.len() - 1).to_string();
        Some((200, json!({member: {"jobid": job}})))
    }

    /// As the server does it: what came, without the signature, sorted and in lower case.
    fn is_signed(&self, body: &str, signature: &str) -> bool {
        let mut pairs: Vec<_> = body
            .split('&')
            .filter(|pair| !pair.starts_with("signature="))
            .map(str::to_lowercase)
            .collect();
        pairs.sort();
        let text = pairs.join("&");
        let signed = if self.sha1 {
            hash::<Hmac<sha1::Sha1>>(&text)
        } else {
            hash::<Hmac<sha2::Sha256>>(&text)
        };
        signed == signature
    }

    fn list(&self, kind: &str, call: &Map<String, Value>) -> Value {
        let kind = kind.to_lowercase();
        let kind = kind.strip_suffix('s').unwrap();
        let mut found: Vec<&Value> = Vec::new();
        for (_, thing) in self.things.iter().filter(|(other, _)| other == kind) {
            // As the server does: names that begin alike are found, too.
            let matches = ["name", "keyword"].iter().all(|key| {
                call.get(*key).is_none_or(|name| {
                    thing["name"]
                        .as_str()
                        .unwrap()
                        .starts_with(name.as_str().unwrap())
                })
            });
            if matches {
                found.push(thing);
            }
        }
        json!({"count": found.len(), kind: found})
    }

    fn get(&mut self, kind: &str, id: &Value) -> Result<&mut Value, String> {
        let thing = self
            .things
            .iter_mut()
            .find(|(other, thing)| other == kind && &thing["id"] == id);
        thing
            .map(|(_, thing)| thing)
            .ok_or_else(|| format!("no {kind} has the id {id}"))
    }

    fn make(&mut self, kind: &str, mut thing: Value) -> Value {
        thing["id"] = format!("{kind}-{}", self.things.len()).into();
        self.things.push((kind.to_owned(), thing.clone()));
        json!({kind: thing})
    }

    fn change(&mut self, command: &str, call: &Map<String, Value>) -> Result<Value, String> {
        let name = call.get("name").cloned().unwrap_or_default();
        match command {
            "registerSSHKeyPair" => {
                Ok(json!({"keypair": self.make("sshkeypair", json!({"name": name}))["sshkeypair"]}))
            }
            "createAffinityGroup" => {
                Ok(self.make("affinitygroup", json!({"name": name, "type": call["type"]})))
            }
            "deployVirtualMachine" => {
                for (kind, key) in [
                    ("template", "templateid"),
                    ("zone", "zoneid"),
                    ("serviceoffering", "serviceofferingid"),
                    ("network", "iptonetworklist[0].networkid"),
                ] {
                    self.get(kind, &call[key])?;
                }
                let groups: Vec<_> = call
                    .get("affinitygroupids")
                    .map(|id| json!({"id": id}))
                    .into_iter()
                    .collect();
                let nic = json!({"networkid": call["iptonetworklist[0].networkid"], "ipaddress": call["iptonetworklist[0].ip"]});
                let state = if call["startvm"] == "false" {
                    "Stopped"
                } else {
                    "Running"
                };
                Ok(self.make(
                    "virtualmachine",
                    json!({"name": name, "state": state, "nic": [nic], "affinitygroup": groups}),
                ))
            }
            "startVirtualMachine" => {
                let vm = self.get("virtualmachine", &call["id"])?;
                vm["state"] = "Running".into();
                Ok(json!({"virtualmachine": vm}))
            }
            "createVolume" => {
                self.get("diskoffering", &call["diskofferingid"])?;
                Ok(self.make("volume", json!({"name": name, "size": call["size"]})))
            }
            "attachVolume" => {
                self.get("virtualmachine", &call["virtualmachineid"])?;
                let volume = self.get("volume", &call["id"])?;
                volume["virtualmachineid"] = call["virtualmachineid"].clone();
                Ok(json!({"volume": volume}))
            }
            "createLoadBalancer" => {
                self.get("network", &call["networkid"])?;
                let port = |key: &str| call[key].as_str().unwrap().parse::<u16>().unwrap();
                let rule =
                    json!({"sourceport": port("sourceport"), "instanceport": port("instanceport")});
                Ok(self.make("loadbalancer", json!({
                    "name": name, "algorithm": call["algorithm"], "sourceipaddress": call["sourceipaddress"],
                    "loadbalancerrule": [rule], "loadbalancerinstance": [],
                })))
            }
            "assignToLoadBalancerRule" => {
                let vms: Vec<_> = call["virtualmachineids"]
                    .as_str()
                    .unwrap()
                    .split(',')
                    .map(|id| json!({"id": id}))
                    .collect();
                for vm in &vms {
                    self.get("virtualmachine", &vm["id"])?;
                }
                let balancer = self.get("loadbalancer", &call["id"])?;
                balancer["loadbalancerinstance"]
                    .as_array_mut()
                    .unwrap()
                    .extend(vms);
                Ok(json!({"success": true}))
            }
            other => Err(format!("{other} is not known here")),
        }
    }
}

/// Whether a definition of the API has a command with these parameters.
fn check(definition: &str, command: &str, call: &Map<String, Value>) -> Result<(), String> {
    let definition: Value = serde_json::from_str(definition).unwrap();
    let source = &definition["source"];
    let known = &definition["commands"][command];
    let names = |kind: &str| {
        known[kind]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
    };
    let (required, optional) = (names("required"), names("optional"));
    if known.is_null() {
        return Err(format!("{source} has no {command}"));
    }
    for name in call.keys() {
        let plain = name.split('[').next().unwrap();
        if !required.contains(&plain)
            && !optional.contains(&plain)
            && !["page", "pagesize"].contains(&plain)
        {
            return Err(format!("{source}: {command} has no parameter {name}"));
        }
    }
    match required.iter().find(|name| !call.contains_key(**name)) {
        Some(name) => Err(format!("{source}: {command} needs {name}")),
        None => Ok(()),
    }
}

fn hash<M: Mac + KeyInit>(text: &str) -> String {
    let mut mac = <M as KeyInit>::new_from_slice(SECRET_KEY.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    BASE64.encode(mac.finalize().into_bytes())
}
