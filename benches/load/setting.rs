//! The simulated upstreams of a run, and the contestants in front of them.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use breakwater::clock;

use crate::client::Connection;
use crate::folder::{Folder, Reserved};
use crate::peers::{Ground, Kind, Peer, Variant};
use crate::primary::{PATIENCE_MS, Upstreams};
use crate::process::{Core, Pinning, Process};
use crate::provider::{self, Pair};
use crate::scenario::{Scenario, http};
use crate::tls;
use crate::window::{Contestant, Load};

/// The simulated providers stay the same, whichever build of the gateway stands before them.
const SIMULATOR: &str = env!("CARGO_BIN_EXE_breakwater");

/// A model that the simulator serves.
pub(crate) const UPSTREAM_MODEL: &str = "gpt-4o";

/// A journal of every request would be the load's own cost; and headers that tell of a used-up quota, as a load uses up any
/// plausible one, would block the failing backend, so that nothing fails over any more.
const SIMULATED: &str = r#""record":false,"rpm":4000000000,"tpm":4000000000"#;

/// The simulated backends, of which the provider imitates the last two: name, what its settings say besides, its rules.
const BACKENDS: [(&str, &str, &str); 6] = [
    ("paced", r#","tokens_per_second":50"#, "[]"),
    ("slow", r#","tokens_per_second":1"#, "[]"),
    ("hanging", "", r#"[{"fault":{"hang":"before_headers"}}]"#),
    ("troubled", "", "[]"),
    ("model", "", "[]"),
    ("broken", "", r#"[{"fault":{"status":{"code":503}}}]"#),
];

/// Requests that open a circuit for sure, also where only some of them find a failing backend.
const TRIPPING_REQUESTS: usize = 60;

/// Between two edits of the file: sooner, and it is not quiet long enough to be taken over.
const EDITS: Duration = Duration::from_millis(700);

/// After its start a process is idle so long before its memory is read.
const IDLE: Duration = Duration::from_millis(300);

/// Everything that a run needs. Dropped, its processes are killed and its folder is gone.
pub(crate) struct Setting {
    // Processes first: they write into the folder.
    peers: HashMap<Kind, Peer>,
    missing: Vec<Kind>,
    _simulator: Process,
    _provider: Process,
    control: SocketAddr,
    upstreams: Upstreams,
    root: PathBuf,
    pinning: Pinning,
    _ports: Vec<Reserved>,
    folder: Folder,
}

impl Setting {
    /// Starts the upstreams, for all contestants but those. Must run inside a `LocalSet`.
    ///
    /// # Errors
    /// What did not start, and its last words.
    pub(crate) async fn start(pinning: Pinning, without: &[Kind]) -> Result<Self, String> {
        let folder = Folder::new()?;
        let ports = (0..11).map(|_| Reserved::new()).collect::<Result<Vec<_>, _>>()?;
        let [control, model, broken, working, paced, slow, failing, hanging, refusing, tls, troubled] =
            std::array::from_fn(|at| ports[at].address);
        let upstreams = Upstreams { working, paced, slow, failing, hanging, refusing, tls, troubled };
        let simulator =
            start_simulator(&pinning, &folder, control, [paced, slow, hanging, troubled, model, broken]).await?;
        let requests = [Scenario::Plain, Scenario::Stream].map(|scenario| scenario.request(model, UPSTREAM_MODEL, ""));
        let (simulated, at) = (Pair { working: model, failing: broken }, Pair { working, failing });
        let provider = provider::start(&folder, &pinning, simulated, at, [&requests[0][..], &requests[1][..]]).await?;
        let root = tls::start(&folder, tls, working)?;
        let peers = HashMap::new();
        Ok(Self {
            peers,
            missing: without.to_vec(),
            _simulator: simulator,
            _provider: provider,
            control,
            upstreams,
            root,
            pinning,
            _ports: ports,
            folder,
        })
    }

    /// What the figures depend on, for the head of the table.
    pub(crate) fn describe(&self) -> String {
        let cores =
            if self.pinning.is_pinned() { "contestants on core 0, load and simulator on core 1" } else { "not pinned" };
        format!("{cores}; one worker each unless it says otherwise; least/median/greatest window")
    }

    /// Who was to take part and is not installed, or not wanted.
    pub(crate) fn missing(&self) -> String {
        let names: Vec<&str> = self.missing.iter().map(|kind| kind.name()).collect();
        names.join(", ")
    }

    fn ground(&self) -> Ground<'_> {
        Ground { pinning: &self.pinning, folder: &self.folder, upstreams: &self.upstreams, root: &self.root }
    }

    /// Starts who takes part in a scenario and does not run yet; ends who takes part neither in it nor in a later one.
    ///
    /// # Errors
    /// Who did not start.
    pub(crate) async fn summon(&mut self, scenario: Scenario, later: &[Scenario]) -> Result<(), String> {
        let is_wanted =
            |kind: &Kind| [scenario].iter().chain(later).any(|scenario| scenario.contestants().contains(kind));
        self.peers.retain(|kind, _| is_wanted(kind));
        for kind in scenario.contestants() {
            if *kind == Kind::Direct || self.peers.contains_key(kind) || self.missing.contains(kind) {
                continue;
            }
            match self.ground().start(*kind).await? {
                Some(peer) => drop(self.peers.insert(*kind, peer)),
                None => self.missing.push(*kind),
            }
        }
        Ok(())
    }

    /// Lets contestants find out which backends fail, where they are to have given them up.
    pub(crate) async fn prepare(&self, scenario: Scenario) {
        if !scenario.primary().is_given_up() {
            return;
        }
        for contestant in self.contestants(scenario).iter().filter(|contestant| contestant.process.is_some()) {
            for _ in 0..TRIPPING_REQUESTS {
                // That some of them fail is what it is about.
                let asked = ask(contestant.load.address, &contestant.load.request);
                let _ = tokio::time::timeout(Duration::from_millis(u64::from(PATIENCE_MS) * 4), asked).await;
            }
        }
    }

    /// Who takes part, the direct way first.
    pub(crate) fn contestants(&self, scenario: Scenario) -> Vec<Contestant<'_>> {
        let wanted = scenario.wanted();
        let contestant = |kind: &Kind| {
            if *kind == Kind::Direct {
                let address = self.direct(scenario);
                let load = Load { address, request: scenario.request(address, UPSTREAM_MODEL, ""), wanted };
                return Some(Contestant { kind: *kind, load, process: None });
            }
            let peer = self.peers.get(kind)?;
            let (address, request) = peer.request(scenario)?;
            Some(Contestant { kind: *kind, load: Load { address, request, wanted }, process: Some(&peer.process) })
        };
        scenario.contestants().iter().filter_map(contestant).collect()
    }

    fn direct(&self, scenario: Scenario) -> SocketAddr {
        if scenario == Scenario::Paced {
            self.upstreams.paced
        } else if scenario == Scenario::Slow {
            self.upstreams.slow
        } else {
            self.upstreams.working
        }
    }

    /// A counter of the gateway, summed over the series that have all these labels; zero if it does not run.
    ///
    /// # Errors
    /// The gateway does not say.
    pub(crate) async fn count(&self, name: &str, labels: &str) -> Result<u64, String> {
        let Some((address, _)) = self.peers.get(&Kind::Breakwater).and_then(|peer| peer.request(Scenario::Plain))
        else {
            return Ok(0);
        };
        let text = ask(address, &http("GET", "/metrics", address, "", "")).await?;
        let start = format!("{name}{{");
        let lines = text.lines().filter(|line| line.starts_with(&start) && line.contains(labels));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// What goes wrong with a simulated backend from now on.
    ///
    /// # Errors
    /// The simulator does not take it.
    pub(crate) async fn set_rules(&self, backend: &str, rules: &str) -> Result<(), String> {
        let path = format!("/backends/{backend}/rules");
        ask(self.control, &http("PUT", &path, self.control, "", rules)).await.map(drop)
    }

    /// Changes the gateway's file again and again. Never ends of itself.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn keep_editing(&self) -> Result<(), String> {
        for edit in 0.. {
            let variant = Variant { weight: 1 + edit % 2, ..Variant::USUAL };
            let beside = self.folder.write("edited.yaml", &self.ground().gateway_yaml(variant))?;
            let file = self.folder.path().join(format!("{}.yaml", Kind::Breakwater.name()));
            std::fs::rename(&beside, file).map_err(|error| format!("no edit: {error}"))?;
            tokio::time::sleep(EDITS).await;
        }
        Ok(())
    }

    /// Starts a process anew: how long it takes to its first answer, and what it holds when it has been idle since. None if it is
    /// not installed.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn time_start(&self, kind: Kind) -> Result<Option<(Duration, Option<u64>)>, String> {
        let begun = clock::now();
        let Some(peer) = self.ground().start(kind).await? else { return Ok(None) };
        let (address, request) = peer.request(Scenario::Start).ok_or("no request")?;
        ask(address, &request).await?;
        let took = clock::now().since(begun);
        tokio::time::sleep(IDLE).await;
        Ok(Some((took, peer.process.resident())))
    }
}

async fn start_simulator(
    pinning: &Pinning,
    folder: &Folder,
    control: SocketAddr,
    backends: [SocketAddr; BACKENDS.len()],
) -> Result<Process, String> {
    let mut words = vec!["simulate".into(), "--control".into(), OsString::from(control.to_string())];
    for ((name, _, _), at) in BACKENDS.iter().zip(backends) {
        words.extend(["--backend".into(), OsString::from(format!("{name}={at}:openai"))]);
    }
    let (at, place) = ((pinning, Core::Load), (folder.path(), control));
    let process = Process::start("simulator", at, OsStr::new(SIMULATOR), &words, place).await?;
    for (name, settings, rules) in BACKENDS {
        let settings = format!("{{{SIMULATED}{settings}}}");
        ask(control, &http("PATCH", &format!("/backends/{name}/settings"), control, "", &settings)).await?;
        ask(control, &http("PUT", &format!("/backends/{name}/rules"), control, "", rules)).await?;
    }
    Ok(process)
}

/// One request on a connection of its own; its body.
async fn ask(address: SocketAddr, request: &[u8]) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{address} does not answer: {error}");
    let mut connection = Connection::open(address).await.map_err(failed)?;
    let answer = connection.exchange(request).await.map_err(failed)?;
    let body = String::from_utf8_lossy(answer.body).into_owned();
    match answer.status {
        200..300 => Ok(body),
        status => Err(format!("{address} answers {status}: {body}")),
    }
}
