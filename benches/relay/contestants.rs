//! Who takes part: nobody in between, the gateway, and nginx beside it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::process::{Core, Pinning, Process, find_tool};
use crate::upstream::Upstream;

/// The gateway's program, built with this bench's profile.
const BREAKWATER: &str = env!("CARGO_BIN_EXE_breakwater");

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
    gateway: (Process, SocketAddr),
    nginx: Option<(Process, SocketAddr)>,
    /// The provider.
    pub(crate) upstream: Upstream,
    is_pinned: bool,
    _folder: Folder,
}

struct Folder(PathBuf);

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
        let failed = |error: std::io::Error| format!("the run could not be set up: {error}");
        let path = std::env::temp_dir().join(format!("breakwater-relay-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(failed)?;
        let folder = Folder(path);
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let upstream = Upstream::start(bind().map_err(failed)?).map_err(failed)?;
        // Given back and taken again by the processes; nobody else on this machine asks meanwhile.
        let free = || bind().and_then(|socket| socket.local_addr()).map_err(failed);
        let (own, beside) = (free()?, free()?);
        let config = folder.0.join("gateway.yaml");
        std::fs::write(&config, gateway_yaml(upstream.address)).map_err(failed)?;
        let words = ["--config".into(), config.into(), "--port".into(), OsString::from(own.port().to_string())];
        let words = [&words[..], &["--workers".into(), "1".into()]].concat();
        let place = (folder.0.as_path(), own);
        let at = (&pinning, Core::Contestant);
        let gateway = Process::start("breakwater", at, BREAKWATER.as_ref(), &words, place).await?;
        let nginx = match find_tool("nginx") {
            None => None,
            Some(program) => {
                let config = folder.0.join("nginx.conf");
                std::fs::write(&config, nginx_conf(&folder.0, beside, upstream.address)).map_err(failed)?;
                let words = ["-p".into(), folder.0.clone().into(), "-c".into(), OsString::from(config)];
                let place = (folder.0.as_path(), beside);
                Some((Process::start("nginx", at, program.as_os_str(), &words, place).await?, beside))
            }
        };
        let is_pinned = pinning.is_pinned();
        Ok(Self { gateway: (gateway, own), nginx, upstream, is_pinned, _folder: folder })
    }

    /// What the figures depend on, for the head of the table.
    pub(crate) fn describe(&self) -> String {
        let cores = if self.is_pinned { "contestants on core 0, load and upstream on core 1" } else { "not pinned" };
        let nginx = if self.nginx.is_some() { "" } else { "; nginx is not installed" };
        format!("{cores}; one worker each{nginx}; medians of windows, CPU as least/median/greatest window")
    }

    /// Who takes part, the direct way first.
    pub(crate) fn contestants(&self) -> Vec<Contestant<'_>> {
        let (gateway, own) = &self.gateway;
        let direct = Contestant { name: "direct", address: self.upstream.address, model: "any", process: None };
        let breakwater = Contestant { name: "breakwater", address: *own, model: "route", process: Some(gateway) };
        let nginx = self.nginx.as_ref().map(|(process, address)| Contestant {
            name: "nginx",
            address: *address,
            model: "any",
            process: Some(process),
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

/// A plain proxy that lets every event leave as it came.
fn nginx_conf(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n\
           access_log off; keepalive_requests 1000000000; client_max_body_size 64m;\n\
           client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
           fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
           upstream provider {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}\n\
           server {{\n\
             listen {address} backlog=4096;\n\
             location / {{\n\
               proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
               proxy_set_header Authorization \"Bearer bench\"; proxy_buffering off; proxy_read_timeout 1h;\n\
             }}\n\
           }}\n\
         }}\n"
    )
}
