//! Who takes part: nobody in between, the gateway, and nginx beside it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::folder::{Folder, Reserved};
use crate::nginx::{self, Door};
use crate::primary::Primary;
use crate::process::{self, Core, Pinning, Process, find_tool};
use crate::upstream::Upstream;

/// Whom the load goes to.
pub(crate) struct Contestant<'a> {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it is asked for.
    pub(crate) model: &'static str,
    /// Whose CPU and memory count; none for the upstream, which shares its core with the load.
    pub(crate) process: Option<&'a Process>,
}

/// Everything that a run needs. Dropped, its processes are killed and its folder is gone.
pub(crate) struct Setting {
    gateway: Proxy,
    nginx: Option<Proxy>,
    /// The provider.
    pub(crate) upstream: Upstream,
    is_pinned: bool,
    _folder: Folder,
}

/// A process, and the port that is held for it.
struct Proxy {
    process: Process,
    port: Reserved,
}

impl Setting {
    /// Starts everything.
    ///
    /// # Errors
    /// What did not start, and its last words.
    pub(crate) async fn start(pinning: Pinning) -> Result<Self, String> {
        let folder = Folder::new()?;
        let failed = |error: std::io::Error| format!("no upstream: {error}");
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let upstream = Upstream::start(socket).map_err(failed)?;
        let (own, beside) = (Reserved::new()?, Reserved::new()?);
        let config = folder.write("gateway.yaml", &gateway_yaml(upstream.address))?;
        let port = OsString::from(own.address.port().to_string());
        let words = ["--config".into(), config.into(), "--port".into(), port, "--workers".into(), "1".into()];
        let place = (folder.path(), own.address);
        let at = (&pinning, Core::Contestant);
        let gateway = Process::start("breakwater", at, &process::gateway(), &words, place).await?;
        let nginx = match find_tool("nginx") {
            None => None,
            Some(program) => {
                let address = beside.address;
                let door = Door { address, first: vec![upstream.address], spare: None, primary: Primary::Working };
                let config = folder.write("nginx.conf", &nginx::conf(folder.path(), &[door]))?;
                let words = ["-p".into(), folder.path().into(), "-c".into(), OsString::from(config)];
                let place = (folder.path(), address);
                let process = Process::start("nginx", at, program.as_os_str(), &words, place).await?;
                Some(Proxy { process, port: beside })
            }
        };
        let gateway = Proxy { process: gateway, port: own };
        let is_pinned = pinning.is_pinned();
        Ok(Self { gateway, nginx, upstream, is_pinned, _folder: folder })
    }

    /// What the figures depend on, for the head of the table.
    pub(crate) fn describe(&self) -> String {
        let cores = if self.is_pinned { "contestants on core 0, load and upstream on core 1" } else { "not pinned" };
        let nginx = if self.nginx.is_some() { "" } else { "; nginx is not installed" };
        format!("{cores}; one worker each{nginx}; medians of windows, CPU as least/median/greatest window")
    }

    /// Who takes part, the direct way first.
    pub(crate) fn contestants(&self) -> Vec<Contestant<'_>> {
        let direct = Contestant { name: "direct", address: self.upstream.address, model: "any", process: None };
        let breakwater = Contestant {
            name: "breakwater",
            address: self.gateway.port.address,
            model: "route",
            process: Some(&self.gateway.process),
        };
        let nginx = self.nginx.as_ref().map(|nginx| Contestant {
            name: "nginx",
            address: nginx.port.address,
            model: "any",
            process: Some(&nginx.process),
        });
        [direct, breakwater].into_iter().chain(nginx).collect()
    }
}

/// Everything on that a gateway has on: metrics, access log, circuit breaker.
fn gateway_yaml(upstream: SocketAddr) -> String {
    format!(
        "server: {{host: 127.0.0.1}}\nadmin: {{enabled: false}}\nlogging: {{level: warn, access_log: true}}\n\
         resilience: {{max_in_flight: 4096, timeouts: {{stream_total: 1h}}}}\n\
         model_list: [{{model_name: only, litellm_params: {{model: openai/gpt-4o, api_base: 'http://{upstream}/v1', api_key: bench}}}}]\n\
         router: [{{model_name: route, models: [{{name: only}}]}}]\n"
    )
}
