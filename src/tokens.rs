//! Tokens of applications in Entra ID: got by the client-credentials flow (RFC 6749 4.4) and renewed before their end, one task
//! per identity on the control arbiter.
//!
//! Requests read the token in force from a cell (`provider::token`) and wait for nobody but its first. Without an identity in
//! the configuration there is no task, no client and no connection.

mod grant;
mod renewal;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::task::JoinHandle;
use actix_web::http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use actix_web::http::{Method, Uri};
use bytes::{Bytes, BytesMut};
use tracing::{error, info};

use self::grant::Grant;
use self::renewal::Renewal;
use crate::backend::Backend;
use crate::backend::machine::Command;
use crate::clock;
use crate::config::EntraIdentity;
use crate::provider::token::Token;
use crate::proxy::upstream::{AnswerBody, Limits, Request, Upstream};

/// Longest time that an authority may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Longest time of it that a connection may take, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Largest answer that is read; tokens with many claims come to some kilobytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Least time between two questions, whatever providers say to a token: one that is refused everywhere must not make a flood.
const LEAST_GAP: Duration = Duration::from_secs(5);

/// What one identity's task works with; replaced by a reload.
pub struct Subject {
    /// What it renews.
    pub token: Arc<Token>,
    /// TLS roots, if the authority speaks TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Who uses it.
    pub backends: Vec<Arc<Backend>>,
}

/// The tasks of all identities. Dropped, they end.
#[derive(Default)]
pub struct Renewers {
    running: Vec<Renewer>,
}

struct Renewer {
    subject: Rc<RefCell<Rc<Subject>>>,
    task: JoinHandle<()>,
}

impl Renewers {
    /// Renews these tokens from now on, and no others. Must run on the control arbiter.
    pub fn follow(&mut self, subjects: Vec<Subject>) {
        let mut before = std::mem::take(&mut self.running);
        for subject in subjects {
            let known = before.iter().position(|renewer| Arc::ptr_eq(&renewer.subject.borrow().token, &subject.token));
            let renewer = match known {
                Some(index) => {
                    let renewer = before.swap_remove(index);
                    *renewer.subject.borrow_mut() = Rc::new(subject);
                    renewer
                }
                None => Renewer::start(Rc::new(RefCell::new(Rc::new(subject)))),
            };
            self.running.push(renewer);
        }
    }

    /// Starts a task that panicked anew.
    pub fn look(&mut self) {
        for renewer in self.running.iter_mut().filter(|renewer| renewer.task.is_finished()) {
            let subject = Rc::clone(&renewer.subject);
            *renewer = Renewer::start(subject);
        }
    }

    /// The token of an identity that is renewed already.
    pub fn token(&self, identity: &EntraIdentity) -> Option<Arc<Token>> {
        let tokens = self.running.iter().map(|renewer| Arc::clone(&renewer.subject.borrow().token));
        tokens.into_iter().find(|token| token.identity() == identity)
    }
}

impl Renewer {
    fn start(subject: Rc<RefCell<Rc<Subject>>>) -> Self {
        let task = actix_rt::spawn(renew(Rc::clone(&subject)));
        Self { subject, task }
    }
}

impl Drop for Renewer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn renew(subject: Rc<RefCell<Rc<Subject>>>) {
    let current = || Rc::clone(&subject.borrow());
    let upstream = Upstream::new();
    let mut random = fastrand::Rng::with_seed(fastrand::u64(..));
    let mut renewal = Renewal::default();
    loop {
        let asked_at = clock::now();
        let asked = ask(&upstream, &current()).await;
        let subject = current();
        let wait = match asked {
            Ok(grant) => {
                let wait = renewal.after_success(grant.lifetime, grant.refresh_in, random.f64());
                take(&subject, grant, wait);
                wait
            }
            Err(problem) => {
                subject.token.fail();
                let wait = renewal.after_failure(random.f64());
                tell_failure(subject.token.identity(), &problem, wait);
                wait
            }
        };
        let refused = async {
            tokio::time::sleep_until(clock::to_tokio(asked_at.plus(LEAST_GAP))).await;
            subject.token.refused().await;
        };
        // A limit that is over wakes it as well as a refusal does.
        let _ = tokio::time::timeout(wait, refused).await;
    }
}

/// Puts a token in force, and lets those go on that a refused or missing one had stopped.
fn take(subject: &Subject, grant: Grant, wait: Duration) {
    let EntraIdentity { tenant, client, .. } = subject.token.identity();
    let (lives_s, next_s) = (grant.lifetime.as_secs(), wait.as_secs());
    subject.token.renew(grant.header, grant.lifetime, clock::now());
    for backend in &subject.backends {
        backend.command(Command::CredentialRenewed);
    }
    info!(tenant, client, lives_s, next_s, "token renewed");
}

fn tell_failure(identity: &EntraIdentity, problem: &str, wait: Duration) {
    let EntraIdentity { tenant, client, authority, .. } = identity;
    let (authority, next_ms) = (authority.authority(), wait.as_millis() as u64);
    error!(tenant, client, authority, problem, next_ms, "no token");
}

/// Asks the authority once.
async fn ask(upstream: &Upstream, subject: &Subject) -> Result<Grant, String> {
    let identity = subject.token.identity();
    let authority = &identity.authority;
    let tenant = grant::form_encode(&identity.tenant);
    // The scheme is always `http`: TLS is the connection's. The port is written out, since the scheme does not say it.
    let uri = format!("http://{}{}/{tenant}/oauth2/v2.0/token", authority.endpoint(), authority.path);
    let uri: Uri = uri.parse().map_err(|_| "the authority and the tenant make no URL".to_owned())?;
    let host =
        HeaderValue::from_str(&authority.authority()).map_err(|_| "the authority is no usable host".to_owned())?;
    let headers = |out: &mut HeaderMap| {
        out.insert(HOST, host.clone());
        out.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    };
    let body = [Bytes::from(grant::question(identity))];
    let request =
        Request { uri: &uri, method: &Method::POST, tls: subject.tls.as_ref(), headers: &headers, body: &body };
    let begun = clock::now();
    let until = begun.plus(ANSWER_LIMIT);
    let limits = Limits { begun, connect: begun.plus(CONNECT_LIMIT), head: until };
    let unanswered = |error| format!("the authority does not answer: {error:?}");
    let mut answer = upstream.send(&request, limits).await.map_err(unanswered)?;
    let status = answer.status.as_u16();
    let body = tokio::time::timeout_at(clock::to_tokio(until), read(&mut answer.body)).await;
    let body = body.map_err(|_| "the authority's answer does not end".to_owned())??;
    grant::read(status, &body)
}

async fn read(body: &mut AnswerBody) -> Result<BytesMut, String> {
    let mut read = BytesMut::new();
    while let Some(chunk) = body.chunk().await {
        let chunk = chunk.map_err(|error| format!("the authority's answer breaks off: {error:?}"))?;
        if MAX_ANSWER_BYTES < read.len() + chunk.len() {
            return Err("the authority's answer is too long".to_owned());
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read)
}
