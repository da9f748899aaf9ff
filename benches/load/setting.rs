//! The processes of a run: a simulator with a working and a failing backend, a gateway in front of it, nginx beside it.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use socket2::{Domain, Socket, Type};

use crate::client::Connection;
use crate::process::{Core, Pinning, Process, find_tool};
use crate::scenario::{Scenario, http};
use crate::window::Contestant;

/// The gateway's program, built with this bench's profile.
const BREAKWATER: &str = env!("CARGO_BIN_EXE_breakwater");

/// A model that the simulator serves.
const UPSTREAM_MODEL: &str = "gpt-4o";

/// A journal of every request would be the load's own cost; and headers that tell of a used-up quota, as a load uses up any
/// plausible one, would block the failing backend, so that nothing fails over any more.
const SIMULATED: &str = r#"{"record":false,"rpm":4000000000,"tpm":4000000000}"#;

/// Requests that open a circuit for sure.
const TRIPPING_REQUESTS: usize = 20;

/// Everything that a run needs. Dropped, its processes are killed and its folder is gone.
pub(crate) struct Setting {
    // Processes first: they write into the folder.
    gateway: Running,
    /// The same without an access log: what the log costs.
    unlogged: Running,
    nginx: Option<Running>,
    _simulator: Process,
    /// The simulated backend that works.
    working: SocketAddr,
    is_pinned: bool,
    /// Nobody else can take a port of this run while it runs, and connections to the last of them are refused.
    _ports: [Reserved; 7],
    _folder: Folder,
}

/// A process and where it listens.
struct Running {
    process: Process,
    address: SocketAddr,
}

/// A port of loopback that is bound and not listened on. With `SO_REUSEADDR` on both sides a process of this run may still
/// bind it and listen, while the system gives it to nobody who asks for any free port, and to no outgoing connection.
struct Reserved {
    address: SocketAddr,
    _socket: Socket,
}

impl Reserved {
    fn new() -> std::io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { address, _socket: socket })
    }

    fn seven() -> std::io::Result<[Self; 7]> {
        Ok([Self::new()?, Self::new()?, Self::new()?, Self::new()?, Self::new()?, Self::new()?, Self::new()?])
    }
}

/// A folder of this run's own.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("breakwater-load-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("no folder {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.0.join(name);
        std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the system's folder for temporary files is swept by the system.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Setting {
    /// Starts everything.
    ///
    /// # Errors
    /// What did not start, and its last words.
    pub(crate) async fn start(pinning: Pinning) -> Result<Self, String> {
        let folder = Folder::new()?;
        let ports = Reserved::seven().map_err(|error| format!("no free port: {error}"))?;
        let [control, working, failing, listening, unlogged, beside, refusing] =
            ports.each_ref().map(|port| port.address);
        let simulator = start_simulator(&pinning, &folder, control, [working, failing]).await?;
        let yaml = gateway_yaml([working, failing, refusing]);
        let config = folder.write("gateway.yaml", &yaml)?;
        let gateway = start_gateway("breakwater", &pinning, &folder, (&config, listening)).await?;
        let config = folder.write("unlogged.yaml", &yaml.replace("access_log: true", "access_log: false"))?;
        let unlogged = start_gateway("unlogged", &pinning, &folder, (&config, unlogged)).await?;
        let nginx = match find_tool("nginx") {
            Some(program) => Some(start_nginx(&pinning, &folder, &program, beside, working).await?),
            None => None,
        };
        let is_pinned = pinning.is_pinned();
        Ok(Self { gateway, unlogged, nginx, _simulator: simulator, working, is_pinned, _ports: ports, _folder: folder })
    }

    /// What the figures depend on, for the head of the table.
    pub(crate) fn describe(&self) -> String {
        let cores = if self.is_pinned { "contestants on core 0, load and simulator on core 1" } else { "not pinned" };
        let nginx = if self.nginx.is_some() { "" } else { "; nginx is not installed" };
        format!("{cores}; one worker each{nginx}; least/median/greatest window")
    }

    /// Brings the backends into the state that a scenario wants.
    ///
    /// # Errors
    /// What could not be set.
    pub(crate) async fn prepare(&self, scenario: Scenario) -> Result<(), String> {
        if scenario != Scenario::Open {
            return Ok(());
        }
        let address = self.gateway.address;
        let request = scenario.request(address, scenario.name());
        for _ in 0..TRIPPING_REQUESTS {
            ask(address, &request).await?;
        }
        Ok(())
    }

    /// Who takes part, the direct way first.
    pub(crate) fn contestants(&self, scenario: Scenario) -> Vec<Contestant<'_>> {
        let contestant = |name, address, model, process| Contestant {
            name,
            address,
            request: scenario.request(address, model),
            wanted: scenario.wanted(),
            process,
        };
        let gateway = &self.gateway;
        let mut contestants = vec![
            contestant("direct", self.working, UPSTREAM_MODEL, None),
            contestant("breakwater", gateway.address, scenario.name(), Some(&gateway.process)),
        ];
        if scenario == Scenario::Plain {
            let unlogged = &self.unlogged;
            contestants.push(contestant("unlogged", unlogged.address, scenario.name(), Some(&unlogged.process)));
        }
        if let (Scenario::Plain, Some(nginx)) = (scenario, &self.nginx) {
            contestants.push(contestant("nginx", nginx.address, UPSTREAM_MODEL, Some(&nginx.process)));
        }
        contestants
    }

    /// How often requests of a scenario's route have failed over so far.
    ///
    /// # Errors
    /// The gateway does not say.
    pub(crate) async fn failovers(&self, scenario: Scenario) -> Result<u64, String> {
        let address = self.gateway.address;
        let text = ask(address, &http("GET", "/metrics", address, "")).await?;
        let route = format!("route=\"{}\"", scenario.name());
        let lines =
            text.lines().filter(|line| line.starts_with("breakwater_failovers_total{") && line.contains(&route));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }
}

async fn start_simulator(
    pinning: &Pinning,
    folder: &Folder,
    address: SocketAddr,
    [working, failing]: [SocketAddr; 2],
) -> Result<Process, String> {
    let backend = |name: &str, at: SocketAddr| OsString::from(format!("{name}={at}:openai"));
    let words = [
        "simulate".into(),
        "--control".into(),
        OsString::from(address.to_string()),
        "--backend".into(),
        backend("working", working),
        "--backend".into(),
        backend("failing", failing),
    ];
    let (at, place) = ((pinning, Core::Load), (folder.0.as_path(), address));
    let process = Process::start("simulator", at, OsStr::new(BREAKWATER), &words, place).await?;
    for name in ["working", "failing"] {
        ask(address, &http("PATCH", &format!("/backends/{name}/settings"), address, SIMULATED)).await?;
    }
    let rules = r#"[{"fault":{"status":{"code":503}}}]"#;
    ask(address, &http("PUT", "/backends/failing/rules", address, rules)).await?;
    Ok(process)
}

async fn start_gateway(
    name: &'static str,
    pinning: &Pinning,
    folder: &Folder,
    (config, address): (&Path, SocketAddr),
) -> Result<Running, String> {
    let words = [
        "--config".into(),
        config.into(),
        "--port".into(),
        OsString::from(address.port().to_string()),
        "--workers".into(),
        "1".into(),
    ];
    let (at, place) = ((pinning, Core::Contestant), (folder.0.as_path(), address));
    let process = Process::start(name, at, OsStr::new(BREAKWATER), &words, place).await?;
    Ok(Running { process, address })
}

async fn start_nginx(
    pinning: &Pinning,
    folder: &Folder,
    program: &Path,
    address: SocketAddr,
    upstream: SocketAddr,
) -> Result<Running, String> {
    let config = folder.write("nginx.conf", &nginx_conf(&folder.0, address, upstream))?;
    let words = ["-p".into(), folder.0.clone().into(), "-c".into(), OsString::from(config)];
    let (at, place) = ((pinning, Core::Contestant), (folder.0.as_path(), address));
    let process = Process::start("nginx", at, program.as_os_str(), &words, place).await?;
    Ok(Running { process, address })
}

/// One route per scenario, each with its primary and a backend that works behind it. What would stop trying a failing
/// primary is off, but for the circuit breaker of `tripped`, which stays open for longer than any run.
fn gateway_yaml([working, failing, refusing]: [SocketAddr; 3]) -> String {
    let entry = |name: &str, at: SocketAddr, breaker: &str| {
        format!(
            "  - model_name: {name}\n    litellm_params: {{model: openai/{UPSTREAM_MODEL}, api_base: 'http://{at}/v1', \
             api_key: bench}}\n    resilience: {{circuit_breaker: {{{breaker}}}}}\n"
        )
    };
    let off = "enabled: false";
    let mut text = String::from(
        "server: {host: 127.0.0.1}\nadmin: {enabled: false}\nlogging: {level: warn, access_log: true}\n\
         resilience:\n  max_in_flight: 4096\n  endpoint_breaker: {enabled: false}\n  \
         retry_budget: {budget_ratio: 1.0, min_retries: 10000}\nmodel_list:\n",
    );
    text.push_str(&entry("working", working, off));
    text.push_str(&entry("spare", working, off));
    text.push_str(&entry("failing", failing, off));
    let long = "wait_duration_in_open_state: 3600s, max_wait_duration_in_open_state: 3600s";
    text.push_str(&entry("tripped", failing, long));
    text.push_str(&entry("refusing", refusing, off));
    text.push_str("router:\n");
    for scenario in Scenario::ALL {
        let (name, primary) = (scenario.name(), scenario.primary());
        text.push_str(&format!(
            "  - {{model_name: {name}, routing_strategy: fallback, models: [{{name: {primary}, priority: 1}}, \
             {{name: spare, priority: 2}}]}}\n"
        ));
    }
    text
}

/// A plain proxy that does what any proxy must: keep connections alive on both sides, replace the credential.
fn nginx_conf(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;\n\
         events {{ worker_connections 2048; }}\n\
         http {{\n\
           access_log off; keepalive_requests 1000000000; client_body_buffer_size 64k;\n\
           client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
           fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
           upstream simulator {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}\n\
           server {{\n\
             listen {address} backlog=1024;\n\
             location / {{\n\
               proxy_pass http://simulator; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
               proxy_set_header Authorization \"Bearer bench\";\n\
             }}\n\
           }}\n\
         }}\n"
    )
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
