//! TLS on both sides: a listener whose certificate is renewed while it runs, and upstreams behind roots of their own.

use crate::support::{Answer, Ask, Client, Ending, Gateway, Scripted, Setup, in_chunks, wait_for, with_length};

const TLS: &str = "server: {tls: {cert_file: cert.pem, key_file: key.pem}}\n";

/// A certificate for `localhost` that vouches for itself, and its key.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn start(upstream: &Scripted, (cert, key): &(String, String)) -> Gateway {
    let yaml = Scripted::yaml_of(&[("one", upstream)], TLS);
    Setup::new(yaml).file("cert.pem", cert).file("key.pem", key).start()
}

/// The answer, or why hands could not be shaken.
fn ask(gateway: &Gateway, trusted: &str, ask: &Ask) -> Result<Answer, String> {
    let client = Client::connect_tls(gateway.address(), trusted, &["http/1.1"]);
    client.map(|mut client| client.ask(ask)).map_err(|error| error.to_string())
}

#[test]
fn a_listener_speaks_tls_and_both_protocols() {
    let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n";
    let upstream = Scripted::start(vec![in_chunks(stream, 20), with_length(r#"{"id":"x"}"#)]);
    let pair = pair();
    let gateway = start(&upstream, &pair);
    let mut client = Client::connect_tls(gateway.address(), &pair.0, &["http/1.1"]).unwrap();
    assert_eq!(client.protocol(), Some("http/1.1"));
    let streamed = client.ask(&Ask::stream("one"));
    assert_eq!((streamed.status(), streamed.ending), (200, Some(Ending::Whole)), "{streamed:?}");
    assert_eq!(client.ask(&Ask::chat("one")).status(), 200, "the same connection");
    let both = Client::connect_tls(gateway.address(), &pair.0, &["h2", "http/1.1"]).unwrap();
    assert_eq!(both.protocol(), Some("h2"));
    let plain = gateway.ask(&Ask::get("/health/liveliness"));
    assert!(plain.status() != 200, "{plain:?}");
}

#[test]
fn a_renewed_certificate_is_shown_to_the_next_client_and_a_bad_one_to_none() {
    let upstream = Scripted::start(vec![with_length(r#"{"id":"x"}"#)]);
    let (first, second, other) = (pair(), pair(), pair());
    let gateway = start(&upstream, &first);
    let mut open = Client::connect_tls(gateway.address(), &first.0, &["http/1.1"]).unwrap();
    assert_eq!(open.ask(&Ask::chat("one")).status(), 200);
    let save = |cert: &str, key: &str| {
        for (name, text) in [("key.pem", key), ("cert.pem", cert)] {
            let path = gateway.path().with_file_name(name);
            std::fs::write(path.with_extension("new"), text).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        }
    };
    save(&second.0, &second.1);
    wait_for("the second certificate", || {
        ask(&gateway, &second.0, &Ask::chat("one")).ok().filter(|it| it.status() == 200)
    });
    assert!(ask(&gateway, &first.0, &Ask::chat("one")).is_err(), "the first is shown no more");
    assert_eq!(open.ask(&Ask::chat("one")).status(), 200, "an open connection goes on");
    // A key that is not the certificate's: what was in force stays.
    save(&other.0, &first.1);
    let rejected = gateway.wait_event("config rejected").to_string();
    assert!(rejected.contains("BW705"), "{rejected}");
    assert!(!rejected.contains(first.1.lines().nth(1).unwrap()), "the key is told to nobody");
    assert_eq!(ask(&gateway, &second.0, &Ask::chat("one")).map(|it| it.status()), Ok(200));
}

#[test]
fn an_upstream_behind_its_own_root_is_trusted_by_its_file_alone() {
    let upstream = Scripted::start(vec![with_length(r#"{"id":"x"}"#)]);
    let pair = pair();
    let behind = start(&upstream, &pair);
    let port = behind.address().port();
    let yaml = |own: &str, more: &str| {
        format!(
            "model_list: [{{model_name: far, litellm_params: {{model: openai/one, api_key: k, \
             api_base: \"https://localhost:{port}/v1\"}}{own}}}]\n{more}"
        )
    };
    for (own, more) in [(", ca_file: cert.pem", ""), ("", "defaults: {ca_file: cert.pem}\n")] {
        let front = Setup::new(yaml(own, more)).file("cert.pem", &pair.0).start();
        for _ in 0..2 {
            let answer = front.ask(&Ask::chat("far"));
            assert_eq!((answer.status(), answer.trail()), (200, "far=200"), "{answer:?}");
        }
    }
    let distrustful = Gateway::start(yaml("", ""));
    let answer = distrustful.ask(&Ask::chat("far"));
    assert_eq!((answer.status(), answer.trail()), (502, "far=api_connection_error"), "{answer:?}");
    distrustful.wait_scrape("the failure", |scrape| {
        scrape.sum("breakwater_attempt_failure_details_total", &[("detail", "tls")]) == 1.0
    });
    assert_eq!(upstream.calls(), 4);
}
