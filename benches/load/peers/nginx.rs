//! nginx as a plain proxy: the floor for what a proxied request costs.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::primary::{PATIENCE_MS, Primary};

/// A part of its configuration: one port, and what stands behind it.
pub(crate) struct Door {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Whom it tries first, as equals.
    pub(crate) first: Vec<SocketAddr>,
    /// Whom it turns to then.
    pub(crate) spare: Option<SocketAddr>,
    /// What is wrong with the first.
    pub(crate) primary: Primary,
}

/// Does what any proxy must: keep connections alive on both sides, replace the credential. Writes no log. It lets events pass
/// as they come, and fails over, where there is somebody to fail over to.
pub(crate) fn conf(folder: &Path, doors: &[Door]) -> String {
    let folder = folder.display();
    let mut text = format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log crit;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n\
           access_log off; keepalive_requests 1000000000; client_max_body_size 64m; client_body_buffer_size 2m;\n\
           client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
           fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
           proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Authorization \"Bearer bench\";\n\
           proxy_buffering off; proxy_next_upstream error timeout http_503 non_idempotent;\n"
    );
    for (number, door) in doors.iter().enumerate() {
        let given_up = if door.primary.is_given_up() { "max_fails=1 fail_timeout=3600s" } else { "max_fails=0" };
        // A write into a string does not fail.
        let _ = write!(text, "upstream behind{number} {{ ");
        for server in &door.first {
            let _ = write!(text, "server {server} {given_up}; ");
        }
        if let Some(spare) = door.spare {
            let _ = write!(text, "server {spare} backup; ");
        }
        let scheme = if door.primary == Primary::Tls { "https" } else { "http" };
        let patience = if door.primary == Primary::Hanging { format!("{PATIENCE_MS}ms") } else { "1h".to_owned() };
        let _ = writeln!(
            text,
            "keepalive 512; keepalive_requests 1000000000; }}\n\
             server {{ listen {} backlog=4096; location / {{ proxy_pass {scheme}://behind{number}; proxy_read_timeout {patience}; }} }}",
            door.address
        );
    }
    text.push_str("}\n");
    text
}
