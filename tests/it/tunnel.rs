//! A network that lets nobody out but by its proxy.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::{Ask, Gateway, Scripted, Setup, in_chunks, with_length};

/// A proxy that tunnels to one address, whatever name it is given, and writes down what it was asked.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// One that refuses whoever does not bring these credentials.
    fn start(target: SocketAddr, wanted: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        std::thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let head = read_head(&mut client);
                let is_known = head.contains(wanted);
                seen.lock().unwrap().push(head);
                if !is_known {
                    let _ =
                        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 2\r\n\r\nno");
                    continue;
                }
                client.write_all(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n").unwrap();
                let server = TcpStream::connect(target).unwrap();
                let (other_client, other_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut &other_client, &mut &other_server));
                std::thread::spawn(move || std::io::copy(&mut &server, &mut &client));
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn read_head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if client.read(&mut byte).unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// An upstream by TLS, whom everybody but its proxy knows as `upstream.test`.
fn far(upstream: &Scripted) -> (Gateway, String) {
    let made = rcgen::generate_simple_self_signed(["upstream.test".to_owned()]).unwrap();
    let yaml = Scripted::yaml_of(&[("one", upstream)], "server: {tls: {cert_file: cert.pem, key_file: key.pem}}\n");
    let gateway =
        Setup::new(yaml).file("cert.pem", &made.cert.pem()).file("key.pem", &made.signing_key.serialize_pem());
    (gateway.start(), made.cert.pem())
}

fn near(trusted: &str, variables: &[(&str, &str)]) -> Setup {
    let yaml = "model_list: [{model_name: far, litellm_params: {model: openai/one, api_key: k, api_base: \"https://upstream.test/v1\"}}]\n\
                defaults: {ca_file: cert.pem}\n";
    let setup = Setup::new(yaml).file("cert.pem", trusted);
    variables.iter().fold(setup, |setup, (name, value)| setup.variable(name, *value))
}

#[test]
fn tls_upstreams_are_reached_through_the_proxy() {
    let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n";
    let upstream =
        Scripted::start(vec![with_length(r#"{"id":"x"}"#), in_chunks(stream, 30), with_length(r#"{"id":"y"}"#)]);
    let (behind, trusted) = far(&upstream);
    let proxy = Proxy::start(behind.address(), "proxy-authorization: Basic dXNlcjpzZWNyZXQtd29yZA==");
    let url = format!("http://user:secret-word@{}", proxy.address);
    let gateway = near(&trusted, &[("HTTPS_PROXY", &url)]).workers(1).start();
    for ask in [Ask::chat("far"), Ask::stream("far")] {
        let answer = gateway.ask(&ask);
        assert_eq!((answer.status(), answer.trail()), (200, "far=200"), "{answer:?}");
    }
    let heads = proxy.heads();
    assert_eq!(heads.len(), 1, "the tunnel is used again: {heads:?}");
    assert!(heads[0].starts_with("CONNECT upstream.test:443 HTTP/1.1\r\nhost: upstream.test:443\r\n"), "{heads:?}");
    // A body that goes out by the other client.
    let large = format!(r#","user":"{}""#, "x".repeat(80_000));
    let answer = gateway.ask(&Ask::chat_with("far", &large));
    assert_eq!((answer.status(), proxy.heads().len()), (200, 2), "{answer:?}");
    let told = gateway.wait_event("TLS upstreams are reached through a proxy").to_string();
    assert!(!told.contains("secret-word"), "{told}");
}

#[test]
fn a_proxy_that_refuses_is_named() {
    let upstream = Scripted::start(vec![with_length(r#"{"id":"x"}"#)]);
    let (behind, trusted) = far(&upstream);
    let proxy = Proxy::start(behind.address(), "nobody");
    let url = proxy.address.to_string();
    let gateway = near(&trusted, &[("https_proxy", &url)]).start();
    let answer = gateway.ask(&Ask::chat("far"));
    assert_eq!((answer.status(), answer.trail()), (502, "far=api_connection_error"), "{answer:?}");
    assert_eq!(gateway.wait_event("the proxy refuses a tunnel")["status"], 407);
    // Whom NO_PROXY names is looked up and called without it.
    let direct = near(&trusted, &[("HTTPS_PROXY", &url), ("NO_PROXY", "other.test,upstream.test")]).start();
    let calls = proxy.heads().len();
    assert_eq!(direct.ask(&Ask::chat("far")).trail(), "far=api_connection_error", "there is no such host");
    assert_eq!(proxy.heads().len(), calls);
}

#[test]
fn a_proxy_that_cannot_be_used_ends_the_start() {
    let mut gateway = near("-----BEGIN CERTIFICATE-----\n", &[("HTTPS_PROXY", "socks5://u:secret-word@h:1")]).launch();
    let code = gateway.wait_exit().code();
    let said = gateway.stderr().join("\n");
    assert!(code == Some(1) && said.contains("HTTPS_PROXY") && !said.contains("secret-word"), "{code:?} {said}");
}
