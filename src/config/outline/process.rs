//! What a configuration says of the process itself, and of its clients' keys.

use super::super::{
    Admin, Auth, ClientKey, Config, Defaults, LogFormat, Logging, Reload, ResponseHeaders, Rollback, Server, Telemetry,
    WatchMode, url,
};
use super::Outline;
use super::words::{list, or_off, ratio, reference, size, time};

/// Everything that belongs to no backend and no route, client keys aside. Those that wait for a restart are told by
/// [`needs_restart`].
pub(in crate::config) fn process(config: &Config) -> Outline {
    let Config {
        server,
        admin,
        auth,
        defaults,
        reload,
        logging,
        telemetry,
        backends: _,
        routes: _,
        wildcards: _,
        hash: _,
    } = config;
    let mut out = Outline::default();
    of_server(&mut out, server);
    let Admin { enabled, host, port, explicit: _, token, token_reference } = admin;
    out.put("admin.enabled", enabled);
    out.put("admin.host", host);
    out.put("admin.port", port);
    match token {
        Some(token) => out.secret("admin.token", reference(token_reference), token),
        None => out.put("admin.token", "none"),
    }
    let Auth { header_names, keys: _ } = auth;
    out.put("auth.header_names", list(header_names));
    let Defaults { default_route, list_endpoints, rewrite_response_model, forward_client_headers, ca_file, http2 } =
        defaults;
    out.put("defaults.default_route", default_route.as_ref().map_or("none", |name| name.as_str()));
    out.put("defaults.list_endpoints", list_endpoints);
    out.put("defaults.rewrite_response_model", rewrite_response_model);
    out.put("defaults.forward_client_headers", list(forward_client_headers));
    out.put("defaults.ca_file", ca_file.as_deref().unwrap_or("none"));
    out.put("defaults.http2", http2);
    of_reload(&mut out, reload);
    let Logging { level, format, access_log, access_log_sample, client_address } = logging;
    out.put("logging.level", level);
    let format = match format {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    out.put("logging.format", format);
    out.put("logging.access_log", access_log);
    out.put("logging.access_log_sample", access_log_sample);
    out.put("logging.client_address", client_address);
    let Telemetry { otlp_endpoint, service_name, sample_ratio } = telemetry;
    out.put("telemetry.otlp_endpoint", otlp_endpoint.as_ref().map_or("none".to_owned(), url::show));
    out.put("telemetry.service_name", service_name);
    out.put("telemetry.sample_ratio", sample_ratio);
    out
}

fn of_server(out: &mut Outline, server: &Server) {
    let Server {
        host,
        port,
        workers,
        max_request_bytes,
        max_in_flight,
        keep_alive,
        shutdown_delay,
        shutdown_timeout,
        metrics_enabled,
        metrics_require_auth,
        metrics_litellm_names,
        response_headers,
        tls,
        cors_origins,
    } = server;
    out.put("server.host", host);
    out.put("server.port", port);
    out.put("server.workers", workers.map_or_else(|| "one per core".to_owned(), |workers| workers.to_string()));
    out.put("server.max_request_bytes", size(*max_request_bytes));
    out.put("server.max_in_flight", or_off(*max_in_flight));
    out.put("server.keep_alive", time(*keep_alive));
    out.put("server.shutdown.delay", time(*shutdown_delay));
    out.put("server.shutdown.timeout", time(*shutdown_timeout));
    out.put("server.metrics.enabled", metrics_enabled);
    out.put("server.metrics.require_auth", metrics_require_auth);
    out.put("server.metrics.litellm_names", metrics_litellm_names);
    let shape = match response_headers {
        ResponseHeaders::Full => "full",
        ResponseHeaders::Minimal => "minimal",
        ResponseHeaders::None => "none",
    };
    out.put("server.response_headers", shape);
    out.put("server.tls", if tls.is_some() { "on" } else { "off" });
    if let Some((cert, key)) = tls {
        out.put("server.tls.cert_file", cert);
        out.put("server.tls.key_file", key);
    }
    out.put("server.cors_origins", list(cors_origins));
}

fn of_reload(out: &mut Outline, reload: &Reload) {
    let Reload { enabled, mode, debounce, poll_interval, rescan_interval, rollback } = reload;
    let Rollback { enabled: returns, watch, min_success_ratio } = rollback;
    out.put("reload.enabled", enabled);
    let mode = match mode {
        WatchMode::Auto => "auto",
        WatchMode::Notify => "notify",
        WatchMode::Poll => "poll",
    };
    out.put("reload.mode", mode);
    out.put("reload.debounce", time(*debounce));
    out.put("reload.poll_interval", time(*poll_interval));
    out.put("reload.rescan_interval", time(*rescan_interval));
    out.put("reload.rollback.enabled", returns);
    out.put("reload.rollback.watch", time(*watch));
    out.put("reload.rollback.min_success_ratio", ratio(*min_success_ratio));
}

/// One client key, its name aside.
pub(in crate::config) fn client_key(key: &ClientKey) -> Outline {
    let ClientKey { key_reference, name: _, key, routes, requests_per_minute, max_in_flight } = key;
    let mut out = Outline::default();
    out.secret("key", reference(key_reference), key);
    out.put("routes", if routes.is_empty() { "[*]".to_owned() } else { list(routes) });
    out.put("rpm", or_off(*requests_per_minute));
    out.put("max_in_flight", or_off(*max_in_flight));
    out
}

/// Whether a key of [`process`] waits for a restart (spec/config.md 7).
pub(in crate::config) fn needs_restart(key: &str) -> bool {
    const KEYS: [&str; 13] = [
        "server.host",
        "server.port",
        "server.workers",
        "server.keep_alive",
        "server.tls",
        "server.cors_origins",
        "admin.enabled",
        "admin.host",
        "admin.port",
        "logging.format",
        "telemetry.otlp_endpoint",
        "telemetry.service_name",
        "telemetry.sample_ratio",
    ];
    KEYS.contains(&key)
}
