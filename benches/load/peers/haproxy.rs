//! HAProxy as a plain proxy with what it has against failing servers.

use std::fmt::Write as _;

use super::nginx::Door;
use crate::primary::{PATIENCE_MS, Primary};

/// One thread, no log. A failing server is tried again at the next one; where it is to be given up, its answers are watched,
/// and its next check is far away.
pub(crate) fn conf(doors: &[Door]) -> String {
    let mut text = "global\n  nbthread 1\n  maxconn 4096\n  tune.bufsize 32768\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1h\n  \
         timeout server 1h\n  http-reuse always\n  retries 1\n  option redispatch 1\n  balance first\n"
        .to_owned();
    for (number, door) in doors.iter().enumerate() {
        // A write into a string does not fail.
        let _ = writeln!(
            text,
            "frontend f{number}\n  bind {} backlog 4096\n  default_backend b{number}\nbackend b{number}\n  \
             http-request set-header Authorization \"Bearer bench\"",
            door.address
        );
        match door.primary {
            Primary::Half => text.push_str("  balance roundrobin\n  retry-on 503 conn-failure\n"),
            Primary::Hanging => {
                let _ = writeln!(text, "  timeout server {PATIENCE_MS}ms\n  retry-on response-timeout conn-failure");
            }
            Primary::Failing | Primary::Tripped | Primary::Refusing => text.push_str("  retry-on 503 conn-failure\n"),
            Primary::Working | Primary::Paced | Primary::Slow | Primary::Tls | Primary::Troubled => {}
        }
        let watched = if door.primary.is_given_up() {
            " check inter 3600s observe layer7 error-limit 1 on-error mark-down"
        } else {
            ""
        };
        let tls = if door.primary == Primary::Tls { " ssl verify none" } else { "" };
        for (place, server) in door.first.iter().enumerate() {
            let _ = writeln!(text, "  server s{place} {server}{watched}{tls}");
        }
        if let Some(spare) = door.spare {
            let _ = writeln!(text, "  server spare {spare}");
        }
    }
    text
}
