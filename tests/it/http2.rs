//! HTTP/2 to an upstream that is asked by it: many calls over one connection, and what its end means for them.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_rustls::TlsAcceptor;

use crate::support::{Ask, Client, Ending, Gateway, Providers, Scripted, Setup, in_chunks, wait_for, with_length};

/// A gateway that speaks TLS and HTTP/2, in front of what follows: an upstream by HTTP/2 for another gateway.
fn far(yaml: &str) -> (Gateway, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let setup = Setup::new(format!(
        "{yaml}server: {{tls: {{cert_file: cert.pem, key_file: key.pem}}, shutdown: {{timeout: 1s}}}}\n"
    ));
    (
        setup.file("cert.pem", &made.cert.pem()).file("key.pem", &made.signing_key.serialize_pem()).start(),
        made.cert.pem(),
    )
}

/// One worker, and so one pool.
fn near(port: u16, model: &str, trusted: &str, more: &str) -> Gateway {
    Setup::new(beyond(port, model, more)).file("cert.pem", trusted).workers(1).start()
}

/// What leads there.
fn beyond(port: u16, model: &str, more: &str) -> String {
    format!(
        "model_list:\n  - model_name: far\n    ca_file: cert.pem\n    http2: true\n    litellm_params: {{model: openai/{model}, api_key: k, \
         api_base: \"https://localhost:{port}/v1\"}}\n{more}"
    )
}

fn acceptor(made: &rcgen::CertifiedKey<rcgen::KeyPair>, protocol: &[u8]) -> TlsAcceptor {
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Serves on a thread of its own, which ends with the process.
fn listen<F: Future<Output = ()>>(serve: impl FnOnce(tokio::net::TcpListener) -> F + Send + 'static) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move { serve(tokio::net::TcpListener::from_std(listener).unwrap()).await });
    });
    address
}

/// TLS in front of a provider, by a server that knows HTTP/1.1 alone.
fn old(provider: SocketAddr) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let acceptor = acceptor(&made, b"http/1.1");
    let address = listen(move |listener| async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = tokio::net::TcpStream::connect(provider).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, made.cert.pem())
}

/// Open connections to a port of this machine (proc(5), `net/tcp`).
fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (to, established) = (format!(":{port:04X}"), "01");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(2).is_some_and(|remote| remote.ends_with(&to)) && row.get(3) == Some(&established))
        .count()
}

#[test]
fn calls_streams_and_large_bodies_share_one_connection() {
    let providers = Providers::pair();
    let (behind, trusted) = far(&providers.yaml(""));
    let gateway = near(behind.address().port(), "r", &trusted, "");
    providers.settings("openai", serde_json::json!({"latency_ms": 150}));
    let clients: Vec<_> = (0..24)
        .map(|number| {
            let ask = match number % 3 {
                0 => Ask::chat("far"),
                1 => Ask::stream("far"),
                _ => Ask::chat_with("far", &format!(r#","user":"{}""#, "x".repeat(300_000))),
            };
            let mut client = Client::connect(gateway.address()).unwrap();
            client.send(&ask);
            client
        })
        .collect();
    for mut client in clients {
        let answer = client.finish();
        assert_eq!((answer.status(), answer.ending), (200, Some(Ending::Whole)), "{answer:?}");
        assert_eq!(answer.trail(), "far=200");
    }
    assert_eq!(connections(behind.address().port()), 1);
    let sent = providers.last("openai");
    assert!(sent.header("connection").is_none(), "{:?}", sent.headers);
    assert_eq!(gateway.ask(&Ask::get("/v1/models")).status(), 200);
}

#[test]
fn a_client_that_leaves_takes_its_stream_along_and_no_other() {
    let providers = Providers::pair();
    providers.settings("openai", serde_json::json!({"tokens_per_second": 20.0}));
    let (behind, trusted) = far(&providers.yaml(""));
    let gateway = near(behind.address().port(), "r", &trusted, "");
    let (mut stays, mut leaves) =
        (Client::connect(gateway.address()).unwrap(), Client::connect(gateway.address()).unwrap());
    for client in [&mut stays, &mut leaves] {
        client.send(&Ask::chat_with("far", r#","stream":true,"max_tokens":20"#));
        client.read_until("openai:0");
    }
    drop(leaves);
    let answer = stays.finish();
    assert_eq!((answer.status(), answer.ending), (200, Some(Ending::Whole)), "{answer:?}");
    assert!(answer.text().contains("openai:19") && answer.text().contains("[DONE]"), "{answer:?}");
    providers.wait_ended("openai", 2);
    let ended: Vec<_> = providers.requests("openai").iter().map(|request| format!("{:?}", request.ended)).collect();
    assert!(ended.iter().any(|ended| ended.contains("ClientClosed")), "{ended:?}");
}

#[test]
fn a_stream_that_is_cut_is_told_of_and_a_dead_connection_costs_nothing() {
    let stream = concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
    );
    let upstream = Scripted::start(vec![with_length(r#"{"id":"x"}"#), in_chunks(stream.as_bytes(), 30)]);
    let (behind, trusted) = far(&Scripted::yaml_of(&[("r1", &upstream)], ""));
    let port = behind.address().port();
    let gateway = near(port, "r", &trusted, "resilience: {endpoint_breaker: {enabled: false}}\n");
    assert_eq!(gateway.ask(&Ask::chat("far")).status(), 200);
    assert!(gateway.ask(&Ask::stream("far")).text().contains("[DONE]"));
    let providers = Providers::pair();
    providers.settings("openai", serde_json::json!({"tokens_per_second": 20.0}));
    let (slow, own) = far(&providers.yaml(""));
    let through = near(slow.address().port(), "r", &own, "");
    let mut client = Client::connect(through.address()).unwrap();
    client.send(&Ask::chat_with("far", r#","stream":true,"max_tokens":200"#));
    client.read_until("openai:1");
    drop(slow);
    let cut = client.finish();
    assert!(cut.text().contains("stream_interrupted") && !cut.text().contains("[DONE]"), "{cut:?}");
    drop(behind);
    let gone = gateway.ask(&Ask::chat("far"));
    assert_eq!((gone.status(), gone.trail()), (502, "far=api_connection_error"), "{gone:?}");
}

/// A server that goes away (GOAWAY) as soon as a stream runs on its first connection, and serves whoever comes by another.
fn leaving() -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let acceptor = acceptor(&made, b"h2");
    let address = listen(move |listener| async move {
        let mut is_first = true;
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(acceptor.clone(), client, std::mem::take(&mut is_first)));
        }
    });
    (address, made.cert.pem())
}

async fn serve(acceptor: TlsAcceptor, client: tokio::net::TcpStream, leaves: bool) {
    const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let Ok(client) = acceptor.accept(client).await else { return };
    let mut connection = h2::server::handshake(client).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        if leaves {
            let head = http::Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
            let mut stream = respond.send_response(head, false).unwrap();
            stream.send_data(EVENT.into(), false).unwrap();
            connection.graceful_shutdown();
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                stream.send_data(END.into(), true).unwrap();
            });
        } else {
            let head = http::Response::builder().header("content-type", "application/json").body(()).unwrap();
            respond
                .send_response(head, false)
                .unwrap()
                .send_data("{\"id\":\"x\",\"choices\":[]}".into(), true)
                .unwrap();
        }
    }
}

#[test]
fn a_server_that_goes_away_ends_what_it_has_begun_and_costs_nobody_an_answer() {
    let (address, trusted) = leaving();
    let gateway = near(address.port(), "x", &trusted, "");
    let mut stream = Client::connect(gateway.address()).unwrap();
    stream.send(&Ask::stream("far"));
    stream.read_until("\"a\"");
    for _ in 0..5 {
        let answer = gateway.ask(&Ask::chat("far"));
        assert_eq!((answer.status(), answer.trail()), (200, "far=200"), "{answer:?}");
    }
    let answer = stream.finish();
    assert!(answer.ending == Some(Ending::Whole) && answer.text().contains("[DONE]"), "{answer:?}");
}

#[test]
fn a_server_without_it_is_asked_by_http1() {
    let providers = Providers::pair();
    let (address, trusted) = old(providers.address("openai"));
    let gateway = near(address.port(), "gpt-4o", &trusted, "");
    for ask in
        [Ask::chat("far"), Ask::stream("far"), Ask::chat_with("far", &format!(r#","user":"{}""#, "x".repeat(80_000)))]
    {
        let answer = gateway.ask(&ask);
        assert_eq!((answer.status(), answer.trail()), (200, "far=200"), "{answer:?}");
    }
}

#[test]
fn connections_outlive_a_reload_that_changes_no_root() {
    let providers = Providers::pair();
    let (address, trusted) = old(providers.address("openai"));
    let gateway = near(address.port(), "gpt-4o", &trusted, "");
    let mut client = gateway.connect();
    assert_eq!(client.ask(&Ask::chat("far")).trail(), "far=200");
    let dialed = providers.counts("openai").connections;
    gateway.save(&beyond(address.port(), "gpt-4o-mini", ""));
    gateway.wait_event("config applied");
    assert_eq!(client.ask(&Ask::chat("far")).trail(), "far=200");
    assert!(String::from_utf8_lossy(providers.last("openai").body()).contains("gpt-4o-mini"));
    assert_eq!(providers.counts("openai").connections, dialed);
    // With another root it is another trust, which no old connection has.
    let made = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).unwrap();
    std::fs::write(gateway.path().with_file_name("cert.pem"), trusted + &made.cert.pem()).unwrap();
    gateway.save(&beyond(address.port(), "gpt-4o", ""));
    let asked = || {
        assert_eq!(gateway.ask(&Ask::chat("far")).trail(), "far=200");
        let sent: serde_json::Value = serde_json::from_slice(providers.last("openai").body()).unwrap();
        (sent["model"] == "gpt-4o").then_some(())
    };
    wait_for("the new configuration", asked);
    assert!(dialed < providers.counts("openai").connections);
}
