//! The sections that concern the process: `server`, `admin`, `auth`, `defaults`, `reload`, `logging`, `telemetry`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::context::{Context, Located};
use super::raw::LiteLlm;
use super::section::Section;
use super::{
    Admin, Auth, ClientKey, Defaults, LogFormat, Logging, Reload, ResponseHeaders, Rollback, RouteName, Server,
    Telemetry, WatchMode,
};
use super::{scalar, url};
use crate::certificate::{self, Flaw};

/// Shorter master keys can be guessed.
const MIN_MASTER_KEY: usize = 16;

/// `defaults.implicit_routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImplicitRoutes {
    /// Every `model_name`.
    All,
    /// Those that no router entry uses.
    Unrouted,
    /// None.
    None,
}

/// What `defaults` says about routes, checked once they are known.
pub(super) struct DefaultsRead {
    /// The section itself.
    pub(super) defaults: Defaults,
    /// Which `model_name`s are routes.
    pub(super) implicit_routes: ImplicitRoutes,
    /// `default_route` with its place.
    pub(super) default_route: Option<Located<String>>,
}

/// A client key's route globs with their places, checked once the routes are known.
pub(super) type KeyRoutes = Vec<Located<String>>;

fn finish(section: Option<Section<'_>>) {
    section.into_iter().for_each(Section::finish);
}

fn address(section: Option<&Section<'_>>, key: &'static str) -> Option<Located<IpAddr>> {
    section?.read(key, |text| {
        let refused = scalar::Misfit { expected: "an IP address", help: None };
        match text {
            "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            text => text.trim_matches(['[', ']']).parse().map_err(|_| refused),
        }
    })
}

fn port(section: Option<&Section<'_>>, key: &'static str) -> Option<Located<u16>> {
    section?.read(key, |text| {
        let refused = || scalar::Misfit { expected: "a port from 1 to 65535", help: None };
        scalar::integer(text)
            .ok()
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .ok_or_else(refused)
    })
}

fn value<T>(read: Option<Located<T>>, default: T) -> T {
    read.map_or(default, |read| read.value)
}

/// `server:`.
pub(super) fn server(top: &Section<'_>, litellm: &LiteLlm) -> Server {
    let section = top.section("server");
    let own = section.as_ref();
    let shutdown = own.and_then(|own| own.section("shutdown"));
    let metrics = own.and_then(|own| own.section("metrics"));
    let zero_or = |section: Option<&Section<'_>>, key, default| {
        value(section.and_then(|section| section.read(key, scalar::duration)), default)
    };
    const HEADERS: [(&str, ResponseHeaders); 3] =
        [("full", ResponseHeaders::Full), ("minimal", ResponseHeaders::Minimal), ("none", ResponseHeaders::None)];
    let max_in_flight = own.and_then(|own| own.or_off("max_in_flight", Section::count));
    let server = Server {
        host: value(address(own, "host"), IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        port: value(port(own, "port"), 4000),
        workers: own.and_then(|own| own.count("workers")).map(|workers| workers.value),
        max_request_bytes: own.and_then(|own| max_request_bytes(own)).or(litellm.max_request_bytes).unwrap_or(32 << 20),
        max_in_flight: max_in_flight.map_or(litellm.max_in_flight, |max| max.value),
        keep_alive: value(own.and_then(|own| own.duration("keep_alive")), Duration::from_secs(75)),
        shutdown_delay: zero_or(shutdown.as_ref(), "delay", Duration::ZERO),
        shutdown_timeout: zero_or(shutdown.as_ref(), "timeout", Duration::from_secs(30)),
        metrics_enabled: value(metrics.as_ref().and_then(|metrics| metrics.boolean("enabled")), true),
        metrics_require_auth: metrics
            .as_ref()
            .and_then(|metrics| metrics.boolean("require_auth"))
            .map(|auth| auth.value)
            .or(litellm.metrics_require_auth)
            .unwrap_or(false),
        metrics_litellm_names: value(metrics.as_ref().and_then(|metrics| metrics.boolean("litellm_names")), false),
        response_headers: value(own.and_then(|own| own.word("response_headers", &HEADERS)), ResponseHeaders::Full),
        tls: own.and_then(|own| tls(top.item.context, own)),
        cors_origins: own
            .and_then(|own| own.item("cors_origins"))
            .map(|item| item.strings().iter().filter_map(|found| origin(top.item.context, found)).collect())
            .unwrap_or_default(),
    };
    finish(shutdown);
    finish(metrics);
    finish(section);
    server
}

/// An origin as browsers write it (RFC 6454 6.2): `*`, or scheme, host and port and nothing behind them.
fn origin(context: &Context<'_>, found: &Located<String>) -> Option<String> {
    let text = found.value.to_ascii_lowercase();
    if text == "*" || text == "null" {
        return Some(text);
    }
    let rest = text.split_once("://").map(|(scheme, rest)| (!scheme.is_empty()).then_some(rest));
    let is_bare = |rest: &str| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', '*']);
    match rest.flatten() {
        Some(rest) if is_bare(rest) => Some(text),
        rest => {
            let mended = rest.and_then(|rest| rest.split('/').next()).filter(|host| is_bare(host));
            let scheme = text.split("://").next().unwrap_or_default();
            let help = mended.map_or_else(
                || "write `https://app.example.com`, or `*` for every page".to_owned(),
                |host| format!("write `{scheme}://{host}`"),
            );
            context.error("BW205", &found.at, format!("`{}` is no origin", found.value), Some(help));
            None
        }
    }
}

fn max_request_bytes(own: &Section<'_>) -> Option<usize> {
    let read = own.read("max_request_bytes", scalar::size)?;
    if read.value == 0 {
        own.item.context.error("BW603", &read.at, "`max_request_bytes` is 0: nothing would fit", None);
    }
    Some(read.value)
}

fn tls(context: &Context<'_>, own: &Section<'_>) -> Option<(String, String)> {
    let section = own.section("tls")?;
    let files = (section.string("cert_file"), section.string("key_file"));
    let pair = match files {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            let resolved = |file: &Located<String>| {
                context.resolve(file.at.place.file, &file.value).to_string_lossy().into_owned()
            };
            is_pair(context, &cert, &key).then(|| (resolved(&cert), resolved(&key)))
        }
        (Some(one), None) | (None, Some(one)) => {
            let help = "give `cert_file` and `key_file`, or neither".to_owned();
            context.error("BW705", &one.at, "a certificate needs its key and a key its certificate", Some(help));
            None
        }
    };
    section.finish();
    pair
}

/// Whether a certificate and its key can be used; if not, that has been said.
fn is_pair(context: &Context<'_>, cert: &Located<String>, key: &Located<String>) -> bool {
    if context.is_opaque(&cert.value) || context.is_opaque(&key.value) {
        return true;
    }
    let (Some(chain), Some(secret)) = (contents(context, cert), contents(context, key)) else { return false };
    let Err(flaw) = certificate::parse(&chain, &secret) else { return true };
    match flaw {
        Flaw::Chain(text) => context.error("BW705", &cert.at, format!("`{}` {text}", cert.value), None),
        Flaw::Key(text) => context.error("BW705", &key.at, format!("`{}` {text}", key.value), None),
        Flaw::Pair => {
            let help = "the first certificate of the chain must be the key's own".to_owned();
            let problem = format!("`{}` is not the key of the certificate in `{}`", key.value, cert.value);
            context.error("BW705", &key.at, problem, Some(help));
        }
    }
    false
}

/// A file's bytes; none if it cannot be read, which has been said.
fn contents(context: &Context<'_>, file: &Located<String>) -> Option<Vec<u8>> {
    let read = context.read(&context.resolve(file.at.place.file, &file.value));
    let said = |error| context.error("BW705", &file.at, format!("`{}` cannot be read: {error}", file.value), None);
    read.map_err(said).ok()
}

/// Checks that a CA file can be read and is PEM; none if not, which has been said.
pub(super) fn is_readable(context: &Context<'_>, file: &Located<String>) -> Option<()> {
    if context.is_opaque(&file.value) {
        return Some(());
    }
    match contents(context, file)? {
        bytes if !bytes.windows(11).any(|window| window == b"-----BEGIN ") => {
            context.error("BW705", &file.at, format!("`{}` is no PEM file", file.value), None);
            None
        }
        _ => Some(()),
    }
}

/// `admin:`. Its default token is the master key.
pub(super) fn admin(top: &Section<'_>, master_key: Option<&ClientKey>, server: &Server) -> Admin {
    let context = top.item.context;
    let section = top.section("admin");
    let own = section.as_ref();
    let host = address(own, "host");
    let port = port(own, "port");
    let token = own.and_then(|own| own.secret("token")).map(|token| (token.value.key, token.value.reference));
    let token = token.or_else(|| master_key.map(|key| (key.key.clone(), key.key_reference.clone())));
    let (token, token_reference) = token.unzip();
    let admin = Admin {
        enabled: value(own.and_then(|own| own.boolean("enabled")), true),
        explicit: host.is_some() || port.is_some(),
        host: host.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |host| host.value),
        port: port.as_ref().map_or(4001, |port| port.value),
        token,
        token_reference: token_reference.unwrap_or_default(),
    };
    if let Some(host) = host.filter(|host| admin.enabled && !host.value.is_loopback() && admin.token.is_none()) {
        let help = "set `admin.token`, or keep it on 127.0.0.1".to_owned();
        context.error("BW702", &host.at, "the admin listener would be open to the network", Some(help));
    }
    let is_same_host = admin.host == server.host || admin.host.is_unspecified() || server.host.is_unspecified();
    if admin.enabled && admin.port == server.port && is_same_host {
        let at = port.map_or_else(|| own.map_or_else(|| top.at().clone(), |own| own.at().clone()), |port| port.at);
        context.error("BW706", &at, format!("`server` and `admin` both want port {}", admin.port), None);
    }
    finish(section);
    admin
}

/// `auth:` and the master key; with each key's route globs.
pub(super) fn auth(top: &Section<'_>, litellm: &LiteLlm) -> (Auth, Vec<KeyRoutes>) {
    let context = top.item.context;
    let section = top.section("auth");
    let mut keys: Vec<(ClientKey, KeyRoutes)> = Vec::new();
    if let Some(master) = &litellm.master_key {
        if master.value.key.expose().chars().count() < MIN_MASTER_KEY {
            let message = format!("`master_key` is shorter than {MIN_MASTER_KEY} characters: it can be guessed");
            context.warning("BW703", &master.at, message, None);
        }
        let key = ClientKey {
            key_reference: master.value.reference.clone(),
            name: Arc::from("master_key"),
            key: master.value.key.clone(),
            routes: Vec::new(),
            requests_per_minute: None,
            max_in_flight: None,
        };
        keys.push((key, Vec::new()));
    }
    for item in section.as_ref().map(|own| own.items("keys")).unwrap_or_default() {
        let Some(entry) = item.section(super::item::Dialect::Ours) else { continue };
        client_key(context, &entry, &mut keys);
        entry.finish();
    }
    let names = section.as_ref().and_then(|own| own.item("header_names"));
    let header_names = match (names, &litellm.key_header) {
        (Some(names), _) => names.strings().into_iter().map(|name| name.value.to_ascii_lowercase()).collect(),
        (None, Some(name)) => vec![name.to_ascii_lowercase(), "x-litellm-api-key".to_owned()],
        (None, None) => vec!["x-litellm-api-key".to_owned()],
    };
    finish(section);
    let (keys, routes) = keys.into_iter().unzip();
    (Auth { header_names, keys }, routes)
}

fn client_key(context: &Context<'_>, entry: &Section<'_>, keys: &mut Vec<(ClientKey, KeyRoutes)>) {
    let name = entry.required("name");
    let secret = entry.secret("key");
    if secret.is_none() && !entry.is_broken("key") {
        entry.missing("key");
    }
    let routes: KeyRoutes = entry.item("routes").map(|item| item.strings()).unwrap_or_default();
    let requests_per_minute = entry.or_off("rpm", Section::count).and_then(|rpm| rpm.value);
    let max_in_flight = entry.or_off("max_in_flight", Section::count).and_then(|max| max.value);
    let (Some(name), Some(secret)) = (name, secret) else { return };
    if let Some((other, _)) = keys.iter().find(|(known, _)| known.key == secret.value.key) {
        context.error("BW704", &secret.at, format!("`{}` has the same key as `{}`", name.value, other.name), None);
    }
    if keys.iter().any(|(known, _)| *known.name == *name.value) {
        context.error("BW704", &name.at, format!("two keys are named `{}`", name.value), None);
    }
    let key = ClientKey {
        key_reference: secret.value.reference.clone(),
        name: Arc::from(name.value),
        key: secret.value.key,
        routes: routes.iter().map(|route| route.value.clone()).collect(),
        requests_per_minute,
        max_in_flight,
    };
    keys.push((key, routes));
}

/// `defaults:`.
pub(super) fn defaults(top: &Section<'_>, litellm: &LiteLlm) -> DefaultsRead {
    let context = top.item.context;
    let section = top.section("defaults");
    let own = section.as_ref();
    const IMPLICIT: [(&str, ImplicitRoutes); 3] =
        [("all", ImplicitRoutes::All), ("unrouted", ImplicitRoutes::Unrouted), ("none", ImplicitRoutes::None)];
    let flag = |key| own.and_then(|own| own.boolean(key)).is_some_and(|flag| flag.value);
    let _ = own.map(|own| own.key("ignore_unsupported"));
    let forwarded = own.and_then(|own| own.item("forward_client_headers"));
    let general = litellm.forward_client_headers.then(|| "x-*".to_owned());
    let default_route = own.and_then(|own| own.string("default_route"));
    let ca_file = own.and_then(|own| own.string("ca_file")).filter(|file| is_readable(context, file).is_some());
    let read = DefaultsRead {
        implicit_routes: value(own.and_then(|own| own.word("implicit_routes", &IMPLICIT)), ImplicitRoutes::All),
        defaults: Defaults {
            default_route: default_route.as_ref().map(|route| RouteName::new(route.value.as_str())),
            list_endpoints: flag("list_endpoints"),
            rewrite_response_model: flag("rewrite_response_model"),
            forward_client_headers: match forwarded {
                Some(names) => names.strings().into_iter().map(|name| name.value.to_ascii_lowercase()).collect(),
                None => general.into_iter().collect(),
            },
            ca_file: ca_file
                .map(|file| context.resolve(file.at.place.file, &file.value).to_string_lossy().into_owned()),
            http2: flag("http2"),
        },
        default_route,
    };
    finish(section);
    read
}

/// `reload:`.
pub(super) fn reload(top: &Section<'_>) -> Reload {
    let section = top.section("reload");
    let own = section.as_ref();
    const MODES: [(&str, WatchMode); 3] =
        [("auto", WatchMode::Auto), ("notify", WatchMode::Notify), ("poll", WatchMode::Poll)];
    let duration = |key, default| value(own.and_then(|own| own.duration(key)), default);
    let reload = Reload {
        enabled: value(own.and_then(|own| own.boolean("enabled")), true),
        mode: value(own.and_then(|own| own.word("mode", &MODES)), WatchMode::Auto),
        debounce: duration("debounce", Duration::from_millis(250)),
        poll_interval: duration("poll_interval", Duration::from_secs(2)),
        rescan_interval: duration("rescan_interval", Duration::from_secs(30)),
        rollback: rollback(own),
    };
    finish(section);
    reload
}

fn rollback(own: Option<&Section<'_>>) -> Rollback {
    let section = own.and_then(|own| own.section("rollback"));
    let own = section.as_ref();
    let rollback = Rollback {
        enabled: value(own.and_then(|own| own.boolean("enabled")), false),
        watch: value(own.and_then(|own| own.duration("watch")), Duration::from_secs(120)),
        min_success_ratio: value(own.and_then(|own| own.ratio("min_success_ratio")), 9_000),
    };
    finish(section);
    rollback
}

/// `logging:`.
pub(super) fn logging(top: &Section<'_>, litellm: &LiteLlm) -> Logging {
    let section = top.section("logging");
    let own = section.as_ref();
    const FORMATS: [(&str, LogFormat); 3] =
        [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = own.and_then(|own| own.word("format", &FORMATS)).map(|format| format.value);
    let logging = Logging {
        level: value(own.and_then(|own| own.string("level")), "info".to_owned()),
        format: format.or(litellm.log_format).unwrap_or(LogFormat::Auto),
        access_log: value(own.and_then(|own| own.boolean("access_log")), true),
        access_log_sample: own.and_then(|own| sample(own, "access_log_sample")).unwrap_or(1.0),
        client_address: value(own.and_then(|own| own.boolean("client_address")), false),
    };
    finish(section);
    logging
}

/// A share that may be 0.
fn sample(own: &Section<'_>, key: &'static str) -> Option<f64> {
    let read = own.read(key, scalar::ratio)?;
    if (0.0..=1.0).contains(&read.value) {
        return Some(read.value);
    }
    let help = "write 0.5 or 50%".to_owned();
    own.item.context.error("BW604", &read.at, format!("`{key}` must lie in 0 to 1"), Some(help));
    None
}

/// `telemetry:`.
pub(super) fn telemetry(top: &Section<'_>) -> Telemetry {
    let section = top.section("telemetry");
    let own = section.as_ref();
    let endpoint = own.and_then(|own| own.string("otlp_endpoint"));
    let otlp_endpoint = endpoint.and_then(|written| match url::parse(&written.value) {
        Ok(read) if read.query.is_none() => Some(read.base),
        Ok(_) => {
            top.item.context.error("BW404", &written.at, "a collector's URL has no query", None);
            None
        }
        Err(refusal) => {
            let help = refusal.repaired.map(|url| format!("write `{url}`"));
            top.item.context.error("BW404", &written.at, refusal.message, help);
            None
        }
    });
    let telemetry = Telemetry {
        otlp_endpoint,
        service_name: value(own.and_then(|own| own.string("service_name")), "breakwater".to_owned()),
        sample_ratio: own.and_then(|own| sample(own, "sample_ratio")).unwrap_or(0.1),
    };
    finish(section);
    telemetry
}
