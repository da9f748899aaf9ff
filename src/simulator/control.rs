//! The control API (spec/wire.md 8.3): what a person or a test does to virtual backends while they run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::Answer;
use super::backend::Backend;
use super::preset;
use super::read;
use super::record::Recorded;
use super::request::Request;
use super::rule::Rule;
use super::script::{self, Connection, Step};
use super::socket::{Broken, Socket};

/// Longest wait for news of requests; clients ask again.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Most records of one answer; `after` with the last sequence gives the next.
const MAX_LISTED: usize = 1000;

/// Most bytes of bodies in one answer, which is built in memory.
const MAX_LISTED_BYTES: usize = 32 << 20;

/// Idle control connections are closed after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// The virtual backends as the control API sees them.
pub(super) type Backends = Arc<Vec<Arc<Backend>>>;

/// Serves a connection to the control port until it ends.
pub(super) async fn serve(backends: Backends, stream: TcpStream) {
    let mut socket = Socket::new(stream);
    while let Ok(Ok(())) = timeout(IDLE_TIMEOUT, socket.wait_for_request()).await {
        let (answer, keeps_alive) = match read_request(&mut socket).await {
            Ok(request) => {
                let outcome = handle(&backends, &request).await;
                (outcome.unwrap_or_else(Problem::answer), request.keeps_alive())
            }
            Err(Broken::Invalid(status, problem)) => (Problem { status, message: problem.to_owned() }.answer(), false),
            Err(Broken::Gone) => return,
        };
        let script = script::write(&answer, None, Connection { takes_chunks: true, keeps_alive });
        for step in script.steps {
            let Step::Send { bytes, .. } = step else { continue };
            if socket.send(&bytes).await.is_err() {
                return;
            }
        }
        if !keeps_alive {
            break;
        }
    }
    socket.close().await;
}

async fn read_request(socket: &mut Socket) -> Result<Request, Broken> {
    let request = socket.read_head().await?;
    let body = socket.read_body(&request).await?;
    Ok(request.with_body(body))
}

/// Why a call was not carried out.
struct Problem {
    status: u16,
    message: String,
}

impl Problem {
    fn answer(self) -> Answer {
        Answer::json(self.status, json!({"error": self.message}).to_string() + "\n")
    }

    fn not_found(message: String) -> Self {
        Self { status: 404, message }
    }
}

/// A message without a status is the caller's mistake in the body or the query.
impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self { status: 400, message }
    }
}

const CALLS: &str = "GET /health, GET /backends, POST /reset, GET /backends/{b}, GET|PUT|PATCH|DELETE /backends/{b}/rules, \
    GET|PATCH /backends/{b}/settings, GET|DELETE /backends/{b}/requests?after=SEQ&wait=MS&ended=N, \
    GET /backends/{b}/counts, PUT /backends/{b}/preset/{name}";

async fn handle(backends: &Backends, request: &Request) -> Result<Answer, Problem> {
    let parts: Vec<&str> = request.path().trim_matches('/').split('/').collect();
    match (request.method(), &parts[..]) {
        ("GET", ["health"]) => Ok(json_answer(&json!({"status": "ok", "backends": backends.len()}))),
        ("GET", ["backends"]) => Ok(json_answer(&backends.iter().map(describe).collect())),
        ("POST", ["reset"]) => {
            backends.iter().try_for_each(|backend| backend.reset()).map_err(unavailable)?;
            Ok(json_answer(&json!({"reset": backends.len()})))
        }
        (method, ["backends", name, rest @ ..]) => {
            let backend = backends.iter().find(|backend| backend.name == *name).ok_or_else(|| {
                let names: Vec<&str> = backends.iter().map(|backend| backend.name.as_str()).collect();
                Problem::not_found(format!("no backend is named {name:?}; there are {}", names.join(", ")))
            })?;
            of_backend(backend, method, rest, request).await
        }
        _ => Err(unknown(request)),
    }
}

fn unknown(request: &Request) -> Problem {
    Problem::not_found(format!("no such call: {} {}; there are {CALLS}", request.method(), request.path()))
}

fn unavailable(message: String) -> Problem {
    Problem { status: 503, message }
}

async fn of_backend(backend: &Arc<Backend>, method: &str, rest: &[&str], request: &Request) -> Result<Answer, Problem> {
    match (method, rest) {
        ("GET", []) => return Ok(json_answer(&describe(backend))),
        ("GET", ["rules"]) => {}
        ("PUT", ["rules"]) => backend.set_rules(rules(request.body())?)?,
        ("PATCH", ["rules"]) => backend.add_rules(rules(request.body())?)?,
        ("DELETE", ["rules"]) => backend.set_rules(Vec::new())?,
        ("PUT", ["preset", name]) => backend.set_rules(preset::rules(name)?)?,
        ("GET", ["settings"]) => return settings(backend),
        ("PATCH", ["settings"]) => {
            backend.patch_settings(object(request.body())?)?;
            return settings(backend);
        }
        ("GET", ["counts"]) => return Ok(json_answer(&backend.counts().to_json())),
        ("GET", ["requests"]) => return requests(backend, request.query()).await,
        ("DELETE", ["requests"]) => {
            backend.clear_records();
            return Ok(json_answer(&json!({"requests": []})));
        }
        _ => return Err(unknown(request)),
    }
    Ok(json_answer(&rules_json(backend)))
}

/// A list of rules, an object with such a list, or one rule.
fn rules(body: &[u8]) -> Result<Vec<Rule>, String> {
    let listed = match read::json(body)? {
        Value::Array(rules) => rules,
        Value::Object(mut object) => match object.remove("rules") {
            Some(Value::Array(rules)) if object.is_empty() => rules,
            Some(_) => return Err("rules: must be a list, and the only field".to_owned()),
            None => vec![Value::Object(object)],
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err("rules: must be a list of {match?, probability, count, fault}".to_owned());
        }
    };
    let listed = listed.into_iter().enumerate();
    listed.map(|(index, rule)| read::at(&format!("rules[{index}]"), rule)).collect()
}

fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    match read::json(body)? {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err("settings: must be an object".to_owned())
        }
    }
}

fn settings(backend: &Backend) -> Result<Answer, Problem> {
    let settings = serde_json::to_value(&*backend.settings()).map_err(|error| unavailable(error.to_string()))?;
    Ok(json_answer(&settings))
}

/// The records after a sequence. With `wait` the call waits for the first of them, with `ended` for so many that have ended.
async fn requests(backend: &Backend, query: &str) -> Result<Answer, Problem> {
    let number = |name: &str| -> Result<Option<u64>, String> {
        let text = query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        text.map(|text| text.parse().map_err(|_| format!("{name}: must be a whole number"))).transpose()
    };
    let names = ["after", "wait", "ended"];
    let unknown =
        query.split('&').find(|part| !part.is_empty() && !names.contains(&part.split('=').next().unwrap_or("")));
    if let Some(part) = unknown {
        return Err(Problem::from(format!("{part}: the parameters are `after`, `wait` and `ended`")));
    }
    let (after, wait, ended) = (number("after")?.unwrap_or(0), number("wait")?, number("ended")?);
    let wait = Duration::from_millis(wait.unwrap_or(0)).min(MAX_WAIT);
    let is_enough = |backend: &Backend| match (backend.count_records(after), ended) {
        ((_, seen), Some(ended)) => ended <= seen,
        ((seen, _), None) => 0 < seen,
    };
    if !wait.is_zero() {
        backend.wait_until(wait, is_enough).await;
    }
    let records = backend.records(after);
    let listed = listed(&records);
    let json: Vec<Value> = listed.iter().map(Recorded::to_json).collect();
    Ok(json_answer(&json!({"requests": json, "has_more": listed.len() < records.len()})))
}

/// As many of the records as one answer takes, at least one.
fn listed(records: &[Recorded]) -> &[Recorded] {
    let mut bytes = 0;
    let fitting = records.iter().take(MAX_LISTED).take_while(|record| {
        bytes += record.body().len();
        bytes <= MAX_LISTED_BYTES
    });
    &records[..fitting.count().max(1).min(records.len())]
}

fn describe(backend: &Arc<Backend>) -> Value {
    let address: SocketAddr = backend.door.address();
    json!({
        "name": backend.name,
        "address": address.to_string(),
        "dialect": backend.dialect.name(),
        "rules": rules_json(backend)["rules"],
        "settings": serde_json::to_value(&*backend.settings()).unwrap_or_default(),
        "counts": backend.counts().to_json(),
    })
}

/// The rules as they can be put again, and beside them how often each applied.
fn rules_json(backend: &Backend) -> Value {
    let (rules, applied): (Vec<Rule>, Vec<u64>) = backend.rules().into_iter().unzip();
    json!({"rules": serde_json::to_value(rules).unwrap_or_default(), "applied": applied})
}

fn json_answer(body: &Value) -> Answer {
    Answer::json(200, body.to_string() + "\n")
}
