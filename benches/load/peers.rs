//! Who takes part: processes beside this one, each asked for the same in its own words.

#[path = "peers/gateway.rs"]
mod gateway;
#[path = "peers/haproxy.rs"]
mod haproxy;
#[path = "peers/litellm.rs"]
mod litellm;
#[path = "peers/nginx.rs"]
pub(crate) mod nginx;
#[path = "peers/portkey.rs"]
mod portkey;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;

pub(crate) use self::gateway::Variant;
use self::nginx::Door;
use crate::folder::{Folder, Reserved};
use crate::primary::{Primary, Upstreams};
use crate::process::{self, Core, Pinning, Process, find_tool};
use crate::scenario::Scenario;
use crate::setting::UPSTREAM_MODEL;

/// Where `benches/install-peers` puts what no system packages.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers");

/// Backends of `ManyBackends`, and its routes.
const MANY: (usize, usize) = (1_000, 300);

/// Client keys of `ManyKeys`.
const MANY_KEYS: usize = 10_000;

/// A contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Nobody in between.
    Direct,
    /// The gateway.
    Breakwater,
    /// The gateway without an access log: what the log costs.
    Unlogged,
    /// nginx.
    Nginx,
    /// `HAProxy`.
    Haproxy,
    /// `LiteLLM`.
    Litellm,
    /// Portkey's gateway.
    Portkey,
    /// The gateway with a thousand backends.
    ManyBackends,
    /// The gateway with ten thousand client keys.
    ManyKeys,
    /// The gateway with one worker, on any core.
    OneWorker,
    /// The gateway with two, on any core.
    TwoWorkers,
}

impl Kind {
    /// Those that are not the gateway.
    pub(crate) const PEERS: [Self; 4] = [Self::Nginx, Self::Haproxy, Self::Litellm, Self::Portkey];

    /// Its name in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Breakwater => "breakwater",
            Self::Unlogged => "unlogged",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Litellm => "litellm",
            Self::Portkey => "portkey",
            Self::ManyBackends => "many",
            Self::ManyKeys => "keys",
            Self::OneWorker => "1 worker",
            Self::TwoWorkers => "2 workers",
        }
    }

    /// Whether it is ours.
    pub(crate) const fn is_own(self) -> bool {
        !matches!(self, Self::Direct | Self::Nginx | Self::Haproxy | Self::Litellm | Self::Portkey)
    }

    /// The gateway's configuration, where it is ours.
    fn variant(self) -> Variant {
        match self {
            Self::Unlogged => Variant { is_logged: false, ..Variant::USUAL },
            Self::ManyBackends => Variant { more: MANY, ..Variant::USUAL },
            Self::ManyKeys => Variant { keys: MANY_KEYS, ..Variant::USUAL },
            Self::Direct
            | Self::Breakwater
            | Self::Nginx
            | Self::Haproxy
            | Self::Litellm
            | Self::Portkey
            | Self::OneWorker
            | Self::TwoWorkers => Variant::USUAL,
        }
    }
}

/// A running contestant.
pub(crate) struct Peer {
    /// Its process.
    pub(crate) process: Process,
    doors: Doors,
    // Held for as long as it may listen there.
    _ports: Vec<Reserved>,
}

/// How it is told where a request is to go.
enum Doors {
    /// By the model's name: that of what stands behind.
    Model(SocketAddr),
    /// By the port.
    Port(Vec<(Primary, SocketAddr)>),
    /// By a header.
    Header(SocketAddr, Box<Upstreams>),
}

impl Peer {
    /// Where a scenario's requests go, and their bytes.
    pub(crate) fn request(&self, scenario: Scenario) -> Option<(SocketAddr, Bytes)> {
        let primary = scenario.primary();
        match &self.doors {
            Doors::Model(address) => Some((*address, scenario.request(*address, primary.name(), ""))),
            Doors::Port(doors) => {
                let address = doors.iter().find(|(known, _)| *known == primary)?.1;
                Some((address, scenario.request(address, UPSTREAM_MODEL, "")))
            }
            Doors::Header(address, upstreams) => {
                let route = portkey::route(upstreams, primary);
                Some((*address, scenario.request(*address, UPSTREAM_MODEL, &route)))
            }
        }
    }
}

/// What contestants are started with.
pub(crate) struct Ground<'a> {
    /// Who puts them on cores.
    pub(crate) pinning: &'a Pinning,
    /// The run's folder.
    pub(crate) folder: &'a Folder,
    /// What stands behind them.
    pub(crate) upstreams: &'a Upstreams,
    /// The root that vouches for the TLS upstream.
    pub(crate) root: &'a Path,
}

impl Ground<'_> {
    /// Starts a contestant; none if it is not installed, or has no process.
    ///
    /// # Errors
    /// Why it did not start.
    pub(crate) async fn start(&self, kind: Kind) -> Result<Option<Peer>, String> {
        match kind {
            Kind::Direct => Ok(None),
            Kind::Nginx => self.start_nginx().await,
            Kind::Haproxy => self.start_haproxy().await,
            Kind::Litellm => self.start_litellm().await,
            Kind::Portkey => self.start_portkey().await,
            Kind::Breakwater
            | Kind::Unlogged
            | Kind::ManyBackends
            | Kind::ManyKeys
            | Kind::OneWorker
            | Kind::TwoWorkers => self.start_gateway(kind).await.map(Some),
        }
    }

    /// The gateway's configuration.
    pub(crate) fn gateway_yaml(&self, variant: Variant) -> String {
        gateway::yaml(self.upstreams, UPSTREAM_MODEL, self.root, variant)
    }

    async fn start_gateway(&self, kind: Kind) -> Result<Peer, String> {
        let port = Reserved::new()?;
        let config = self.folder.write(&format!("{}.yaml", kind.name()), &self.gateway_yaml(kind.variant()))?;
        let workers = if kind == Kind::TwoWorkers { "2" } else { "1" };
        let core = if matches!(kind, Kind::OneWorker | Kind::TwoWorkers) { Core::Any } else { Core::Contestant };
        let words = ["--config".into(), config.into(), "--port".into(), port.address.port().to_string().into()];
        let words = [&words[..], &["--workers".into(), workers.into()]].concat();
        let place = (self.folder.path(), port.address);
        let process = Process::start(kind.name(), (self.pinning, core), &process::gateway(), &words, place).await?;
        Ok(Peer { process, doors: Doors::Model(port.address), _ports: vec![port] })
    }

    fn doors(&self) -> Result<(Vec<Door>, Vec<Reserved>), String> {
        let ports = Primary::ALL.map(|_| Reserved::new()).into_iter().collect::<Result<Vec<_>, _>>()?;
        let door = |(primary, port): (Primary, &Reserved)| Door {
            address: port.address,
            first: self.upstreams.first(primary),
            spare: self.upstreams.spare(primary),
            primary,
        };
        let doors = Primary::ALL.into_iter().zip(&ports).map(door).collect();
        Ok((doors, ports))
    }

    async fn start_nginx(&self) -> Result<Option<Peer>, String> {
        let Some(program) = find_tool("nginx") else { return Ok(None) };
        let (doors, ports) = self.doors()?;
        let config = self.folder.write("nginx.conf", &nginx::conf(self.folder.path(), &doors))?;
        let words = ["-p".into(), self.folder.path().into(), "-c".into(), OsString::from(config)];
        self.start_proxy(Kind::Nginx, &program, &words, (doors, ports)).await.map(Some)
    }

    async fn start_haproxy(&self) -> Result<Option<Peer>, String> {
        let Some(program) = find_tool("haproxy") else { return Ok(None) };
        let (doors, ports) = self.doors()?;
        let config = self.folder.write("haproxy.cfg", &haproxy::conf(&doors))?;
        let words = ["-db".into(), "-f".into(), OsString::from(config)];
        self.start_proxy(Kind::Haproxy, &program, &words, (doors, ports)).await.map(Some)
    }

    async fn start_proxy(
        &self,
        kind: Kind,
        program: &Path,
        words: &[OsString],
        (doors, ports): (Vec<Door>, Vec<Reserved>),
    ) -> Result<Peer, String> {
        let first = doors.first().map(|door| door.address).ok_or("a proxy without doors")?;
        let (at, place) = ((self.pinning, Core::Contestant), (self.folder.path(), first));
        let process = Process::start(kind.name(), at, program.as_os_str(), words, place).await?;
        let doors = Doors::Port(doors.into_iter().map(|door| (door.primary, door.address)).collect());
        Ok(Peer { process, doors, _ports: ports })
    }

    async fn start_litellm(&self) -> Result<Option<Peer>, String> {
        let program = Path::new(INSTALLED).join("litellm/bin/litellm");
        let (Some(env), true) = (find_tool("env"), program.is_file()) else { return Ok(None) };
        let port = Reserved::new()?;
        let config = self.folder.write("litellm.yaml", &litellm::yaml(self.upstreams, UPSTREAM_MODEL))?;
        let mut words: Vec<OsString> = litellm::ENVIRONMENT.map(Into::into).to_vec();
        words.extend([program.into(), "--config".into(), config.into(), "--host".into(), "127.0.0.1".into()]);
        words.extend(["--port".into(), port.address.port().to_string().into(), "--num_workers".into(), "1".into()]);
        let (at, place) = ((self.pinning, Core::Contestant), (self.folder.path(), port.address));
        let process = Process::start(Kind::Litellm.name(), at, env.as_os_str(), &words, place).await?;
        Ok(Some(Peer { process, doors: Doors::Model(port.address), _ports: vec![port] }))
    }

    async fn start_portkey(&self) -> Result<Option<Peer>, String> {
        let script: PathBuf =
            [INSTALLED, "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"].iter().collect();
        let (Some(node), true) = (find_tool("node"), script.is_file()) else { return Ok(None) };
        let port = Reserved::new()?;
        let words = [script.into(), format!("--port={}", port.address.port()).into(), "--headless".into()];
        let (at, place) = ((self.pinning, Core::Contestant), (self.folder.path(), port.address));
        let process = Process::start(Kind::Portkey.name(), at, node.as_os_str(), &words, place).await?;
        let doors = Doors::Header(port.address, Box::new(*self.upstreams));
        Ok(Some(Peer { process, doors, _ports: vec![port] }))
    }
}
