//! Simulated providers in this process, on a thread with a runtime of its own that lives as long as the test.

use std::net::SocketAddr;
use std::time::Duration;

use breakwater::simulator::{
    self, BackendOptions, Counts, Dialect, Fault, Options, Recorded, RetryAfter, Rule, Simulator, Status, Template,
};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::PATIENCE;

/// Running providers. Every name is one of those they were started with.
pub(crate) struct Providers {
    simulator: Option<Simulator>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Providers {
    /// An `openai` and an `azure`, each of its own dialect.
    pub(crate) fn pair() -> Self {
        Self::start(&[("openai", Dialect::OpenAi), ("azure", Dialect::Azure)])
    }

    /// Providers of these names.
    pub(crate) fn start(backends: &[(&str, Dialect)]) -> Self {
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let backend = |(name, dialect): &(&str, Dialect)| BackendOptions {
            name: (*name).to_owned(),
            address: free,
            dialect: *dialect,
        };
        let backends = backends.iter().map(backend).collect();
        let options = Options { control: free, backends, seed: 1, presets: Vec::new() };
        let (stop, stopped) = oneshot::channel();
        let (told, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let simulator = simulator::start(options).await.unwrap();
                told.send((simulator, Handle::current())).unwrap();
                // Also when the sender is gone.
                let _ = stopped.await;
            });
        });
        let (simulator, runtime) = started.recv().expect("the simulator starts");
        Self { simulator: Some(simulator), runtime, stop: Some(stop), thread: Some(thread) }
    }

    fn simulator(&self) -> &Simulator {
        self.simulator.as_ref().expect("there until the drop")
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}", self.address(name))
    }

    /// Where it listens.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        self.simulator().address(name).expect("a provider of that name")
    }

    /// A configuration with each provider as a backend of its own name, and the route `r` that tries them in their order.
    /// `more` follows it.
    pub(crate) fn yaml(&self, more: &str) -> String {
        let names: Vec<&str> = self.simulator().backends().map(|(name, ..)| name).collect();
        format!("{}router:\n{}{more}", self.models(&[]), route("r", &names, ""))
    }

    /// The `model_list` of all providers, some with more members: `("openai", "rpm: 6")` in `litellm_params`.
    pub(crate) fn models(&self, more: &[(&str, &str)]) -> String {
        let mut yaml = "model_list:\n".to_owned();
        for (name, address, dialect) in self.simulator().backends() {
            let more = more.iter().find(|(of, _)| *of == name).map_or(String::new(), |(_, more)| format!(", {more}"));
            let spoken = match dialect {
                Dialect::OpenAi | Dialect::Compat => format!("api_type: openai, api_base: \"http://{address}/v1\""),
                Dialect::Azure => format!(
                    "api_type: azure, api_base: \"http://{address}\", api_version: 2024-10-21, azure_deployment: gpt-4o-prod"
                ),
            };
            yaml.push_str(&format!(
                "  - model_name: {name}\n    litellm_params: {{model: gpt-4o, api_key: key-{name}, {spoken}{more}}}\n"
            ));
        }
        yaml
    }

    /// From now on every request to it meets this fault.
    pub(crate) fn fault(&self, name: &str, fault: Fault) {
        self.rules(name, vec![Rule::from(fault)]);
    }

    /// Replaces its rules.
    pub(crate) fn rules(&self, name: &str, rules: Vec<Rule>) {
        let _entered = self.runtime.enter();
        self.simulator().set_rules(name, rules).unwrap();
    }

    /// It is healthy again.
    pub(crate) fn heal(&self, name: &str) {
        self.rules(name, Vec::new());
    }

    /// Changes some of its settings.
    pub(crate) fn settings(&self, name: &str, changes: Value) {
        self.simulator().patch_settings(name, changes).unwrap();
    }

    /// What it received, oldest first.
    pub(crate) fn requests(&self, name: &str) -> Vec<Recorded> {
        self.simulator().requests(name)
    }

    /// The last request it received.
    pub(crate) fn last(&self, name: &str) -> Recorded {
        self.requests(name).pop().unwrap_or_else(|| panic!("{name} was not called"))
    }

    /// Its counts since the start or the last reset.
    pub(crate) fn counts(&self, name: &str) -> Counts {
        self.simulator().counts(name)
    }

    /// How often it was called, faults of the connection included.
    pub(crate) fn calls(&self, name: &str) -> u64 {
        let counts = self.counts(name);
        counts.requests + counts.connection_faults
    }

    /// Waits until so many of its requests have ended.
    pub(crate) fn wait_ended(&self, name: &str, ended: u64) -> Counts {
        self.runtime.block_on(self.simulator().wait_for(name, ended, PATIENCE)).unwrap()
    }

    /// Everything as at the start.
    pub(crate) fn reset(&self) {
        let _entered = self.runtime.enter();
        self.simulator().reset().unwrap();
    }
}

impl Drop for Providers {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        drop(self.simulator.take());
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

/// One entry of `router:` that tries backends in this order; `more` are further members, each on a line of its own.
pub(crate) fn route(name: &str, backends: &[&str], more: &str) -> String {
    let tiers: Vec<String> = backends
        .iter()
        .enumerate()
        .map(|(tier, backend)| format!("{{name: {backend}, priority: {}}}", tier + 1))
        .collect();
    let more: String = more.lines().map(|line| format!("    {line}\n")).collect();
    format!("  - model_name: {name}\n    routing_strategy: fallback\n    models: [{}]\n{more}", tiers.join(", "))
}

/// An error answer in the provider's own shape.
pub(crate) fn status(code: u16) -> Fault {
    Fault::Status(Status::new(code))
}

/// An error answer in another shape.
pub(crate) fn status_as(code: u16, body: Template) -> Fault {
    Fault::Status(Status { body: Some(body), ..Status::new(code) })
}

/// A 429 that says when to come back.
pub(crate) fn rate_limited(wait: Duration) -> Fault {
    let retry_after = Some(RetryAfter::Ms(wait.as_millis() as u64));
    Fault::Status(Status { retry_after, ..Status::new(429) })
}
