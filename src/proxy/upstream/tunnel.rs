//! The way out of a network that lets nobody out but by its proxy: `HTTPS_PROXY`, `NO_PROXY`, and a tunnel through it (CONNECT,
//! RFC 9110 9.3.6).
//!
//! For TLS alone: whoever is called in clear text is near, and by address. The proxy sees the host's name and ciphertext.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracing::warn;

use crate::clock;
use crate::proxy::operation::decode_percent;

/// Longest answer to CONNECT that is read; proxies add a page that explains a refusal, which nobody would see.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// Fields of such an answer.
const MAX_FIELDS: usize = 32;

/// Between two warnings that the proxy refuses.
const WARN_EVERY_MS: u64 = 10_000;

/// The process's proxy, set at its start.
static OUTBOUND: OnceLock<Option<Outbound>> = OnceLock::new();

/// A proxy and who is reached without it.
#[derive(Clone, PartialEq, Eq)]
pub struct Outbound {
    host: String,
    port: u16,
    /// `Basic` and the credentials, encoded: a secret.
    authorization: Option<String>,
    direct: Vec<Direct>,
}

/// Someone who is reached without the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    Everybody,
    /// This host and all below it, at this port or any.
    Domain(String, Option<u16>),
    /// These addresses.
    Net(IpAddr, u8),
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl fmt::Display for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Outbound {
    /// The proxy that an environment names, as curl and the SDKs read it: the small spelling before the large one.
    ///
    /// # Errors
    /// A sentence without the credentials.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let first = |names: [&str; 2]| names.into_iter().filter_map(&variable).find(|value| !value.trim().is_empty());
        let Some(text) = first(["https_proxy", "HTTPS_PROXY"]) else { return Ok(None) };
        let direct = first(["no_proxy", "NO_PROXY"]).unwrap_or_default();
        Self::parse(text.trim(), &direct).map(Some)
    }

    fn parse(text: &str, direct: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            None => text,
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                // A password may hold what looks like a scheme's end.
                let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
                let what =
                    if is_scheme { format!("a proxy that speaks `{scheme}`") } else { "what it says".to_owned() };
                return Err(format!("HTTPS_PROXY: {what} is not served, give `http://HOST:PORT`"));
            }
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, address) = rest.rsplit_once('@').map_or((None, rest), |(user, address)| (Some(user), address));
        let no_address = || "HTTPS_PROXY: give `http://HOST:PORT`".to_owned();
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        // Without one, the usual port of such proxies, as curl takes it.
        let port = port.map_or(Ok(1080), str::parse::<u16>).map_err(|_| no_address())?;
        if host.is_empty() {
            return Err(no_address());
        }
        let authorization = user.map(|user| format!("Basic {}", BASE64.encode(decode_percent(user).as_bytes())));
        let direct = direct.split([',', ' ']).filter(|word| !word.is_empty()).filter_map(Direct::parse).collect();
        Ok(Self { host: host.to_owned(), port, authorization, direct })
    }

    /// Makes it the process's own; the first call counts.
    pub fn install(found: Option<Self>) {
        let _ = OUTBOUND.set(found);
    }

    /// The process's proxy, if this host is reached through it.
    pub(super) fn for_host(host: &str, port: u16) -> Option<&'static Self> {
        OUTBOUND.get()?.as_ref().filter(|outbound| outbound.leads_to(host, port))
    }

    /// This machine is never looked for elsewhere.
    fn leads_to(&self, host: &str, port: u16) -> bool {
        let address = host.parse::<IpAddr>().ok();
        let is_here = host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback());
        !is_here && !self.direct.iter().any(|direct| direct.covers(host, address, port))
    }

    /// A connection through the proxy to that host, of which nothing was spoken yet.
    pub(super) async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        socket.set_nodelay(true)?;
        socket.write_all(self.question(host, port).as_bytes()).await?;
        let status = read_status(&mut socket).await?;
        if (200..300).contains(&status) {
            return Ok(socket);
        }
        tell_refusal(self, host, status);
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn question(&self, host: &str, port: u16) -> String {
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let authorization = self.authorization.as_deref();
        let field = authorization.map_or_else(String::new, |value| format!("proxy-authorization: {value}\r\n"));
        format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{field}\r\n")
    }
}

impl Direct {
    fn parse(word: &str) -> Option<Self> {
        if word == "*" {
            return Some(Self::Everybody);
        }
        let (address, bits) = word.split_once('/').map_or((word, None), |(address, bits)| (address, Some(bits)));
        if let Ok(address) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
            let all = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(all), |bits| bits.parse().ok().filter(|bits| *bits <= all))?;
            return Some(Self::Net(address, bits));
        }
        let (name, port) = match word.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (word, None),
        };
        let name = name.trim_start_matches('*').trim_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(Self::Domain(name, port))
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::Everybody => true,
            Self::Net(net, bits) => address.is_some_and(|address| is_within(address, *net, *bits)),
            Self::Domain(name, at) => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                let below = host.strip_suffix(name.as_str());
                at.is_none_or(|at| at == port) && below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
        }
    }
}

fn is_within(address: IpAddr, net: IpAddr, bits: u8) -> bool {
    let head = |value: u128, width: u32| value.checked_shr(width - u32::from(bits)).unwrap_or(0);
    match (address, net) {
        (IpAddr::V4(address), IpAddr::V4(net)) => {
            head(u32::from(address).into(), 32) == head(u32::from(net).into(), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(net)) => head(address.into(), 128) == head(net.into(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Reads the head of the answer to CONNECT. Behind it nothing comes: in TLS the client speaks first.
async fn read_status(socket: &mut TcpStream) -> io::Result<u16> {
    let mut head = Vec::with_capacity(512);
    loop {
        if socket.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut answer = httparse::Response::new(&mut fields);
        match answer.parse(&head) {
            Ok(httparse::Status::Complete(length)) => {
                let status = answer.code.unwrap_or_default();
                // What a refusal says behind its head does not matter.
                let is_alone = length == head.len() || !(200..300).contains(&status);
                return if is_alone { Ok(status) } else { Err(io::ErrorKind::InvalidData.into()) };
            }
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD_BYTES => {}
            Ok(httparse::Status::Partial) | Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn tell_refusal(outbound: &Outbound, host: &str, status: u16) {
    static TOLD_AT: AtomicU64 = AtomicU64::new(0);
    let now = clock::unix_now().as_millis() as u64;
    let due = |told: u64| (told.saturating_add(WARN_EVERY_MS) <= now).then_some(now);
    if TOLD_AT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok() {
        warn!(proxy = %outbound, host, status, "the proxy refuses a tunnel");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound(proxy: &str, direct: &str) -> Outbound {
        Outbound::parse(proxy, direct).unwrap()
    }

    #[test]
    fn the_environment_names_a_proxy_in_every_spelling() {
        let of = |pairs: &[(&str, &str)]| {
            let found = Outbound::of(|name| {
                pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            });
            found.map(|found| found.map(|outbound| (outbound.to_string(), outbound.authorization)))
        };
        let plain = |address: &str| Ok(Some((address.to_owned(), None)));
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("HTTPS_PROXY", " ")]), Ok(None));
        assert_eq!(of(&[("HTTPS_PROXY", "http://proxy.corp:3128")]), plain("proxy.corp:3128"));
        assert_eq!(of(&[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "b:2/")]), plain("b:2"));
        assert_eq!(of(&[("HTTPS_PROXY", "http://[::1]:3128")]), plain("::1:3128"));
        assert_eq!(of(&[("HTTPS_PROXY", "proxy")]), plain("proxy:1080"));
        let with_user = of(&[("HTTPS_PROXY", "http://user:p%40ss%2@proxy:3128")]);
        assert_eq!(with_user, Ok(Some(("proxy:3128".to_owned(), Some("Basic dXNlcjpwQHNzJTI=".to_owned())))));
        for bad in [
            "https://proxy:1",
            "socks5://u:secret@proxy:1",
            "http://",
            "http://u:secret@proxy:x",
            "u:secret://x@proxy:1",
            "http://:8080",
        ] {
            let said = of(&[("HTTPS_PROXY", bad)]).unwrap_err();
            assert!(said.starts_with("HTTPS_PROXY") && !said.contains("secret"), "{said}");
        }
        assert!(!format!("{:?}", outbound("http://user:secret@proxy:1", "")).contains("secret"));
    }

    #[test]
    fn some_are_reached_without_it() {
        let table = [
            ("", "api.openai.com", true),
            ("", "localhost", false),
            ("", "127.0.0.1", false),
            ("", "::1", false),
            ("", "10.0.0.1", true),
            ("*", "api.openai.com", false),
            ("openai.com", "api.openai.com", false),
            (".openai.com", "api.openai.com", false),
            ("*.openai.com", "API.OpenAI.com.", false),
            ("openai.com", "openai.com", false),
            ("openai.com", "notopenai.com", true),
            ("openai.com:443", "api.openai.com", false),
            ("openai.com:8443", "api.openai.com", true),
            ("a.example, 10.0.0.0/8 b.example", "10.2.3.4", false),
            ("10.0.0.0/8", "11.2.3.4", true),
            ("0.0.0.0/0", "11.2.3.4", false),
            ("10.2.3.4", "10.2.3.4", false),
            ("fd00::/8", "fd12::1", false),
            ("fd00::/8", "fe80::1", true),
            ("10.0.0.0/33, 10.0.0.0/x, :443", "10.0.0.1", true),
        ];
        for (direct, host, expected) in table {
            assert_eq!(outbound("http://p:1", direct).leads_to(host, 443), expected, "{direct:?} {host}");
        }
    }

    #[test]
    fn the_question_names_the_host_and_who_asks() {
        let plain = outbound("http://p:1", "").question("api.openai.com", 443);
        assert_eq!(plain, "CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\n\r\n");
        let known = outbound("http://u:s@p:1", "").question("fd12::1", 8443);
        assert!(known.starts_with("CONNECT [fd12::1]:8443 HTTP/1.1\r\n"), "{known}");
        assert!(known.contains("\r\nproxy-authorization: Basic dTpz\r\n\r\n"), "{known}");
    }
}
