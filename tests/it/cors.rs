//! Pages that call from a browser: those that are named may, and nobody else learns anything.

use crate::support::{Ask, Gateway, Providers};

const ORIGINS: &str = "server: {cors_origins: [\"https://app.example\", \"http://localhost:3000\"]}\n";
const AUTH: &str = "auth: {keys: [{name: k, key: sk-0123456789}]}\n";

fn preflight(origin: &str) -> Ask {
    let ask = Ask::get("/v1/chat/completions").by("OPTIONS").header("origin", origin);
    ask.header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,x-stainless-os")
}

#[test]
fn a_named_page_may_call_and_read_what_it_needs() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml(&format!("{ORIGINS}{AUTH}")));
    let before = gateway.ask(&preflight("https://app.example"));
    assert_eq!((before.status(), before.body.len()), (204, 0), "{before:?}");
    assert_eq!(before.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(before.header("access-control-allow-headers"), Some("authorization,x-stainless-os"));
    assert_eq!(before.header("access-control-allow-methods"), Some("GET, POST, DELETE, OPTIONS"));
    assert_eq!(before.header("access-control-max-age"), Some("600"));
    for ask in [Ask::chat("r"), Ask::stream("r"), Ask::get("/v1/models"), Ask::chat("nobody")] {
        for key in ["sk-0123456789", "wrong"] {
            let ask =
                ask.clone().header("origin", "https://app.example").header("authorization", &format!("Bearer {key}"));
            let answer = gateway.ask(&ask);
            assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"), "{answer:?}");
            let exposed = answer.header("access-control-expose-headers").unwrap();
            assert!(exposed.contains("x-breakwater-backend") && exposed.contains("x-request-id"), "{exposed}");
            assert_eq!(answer.header("access-control-allow-credentials"), None);
            assert_eq!(answer.header("vary"), Some("origin"));
        }
    }
    for other in ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null"] {
        let refused = gateway.ask(&preflight(other));
        assert_eq!((refused.status(), refused.header("access-control-allow-origin")), (405, None), "{refused:?}");
        let answer = gateway.ask(&Ask::get("/livez").header("origin", other));
        assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (200, None), "{answer:?}");
    }
    assert_eq!(gateway.ask(&Ask::get("/livez")).header("access-control-allow-origin"), None, "no page has asked");
}

#[test]
fn every_page_may_where_the_file_says_so_and_none_by_default() {
    let providers = Providers::pair();
    let open = Gateway::start(providers.yaml("server: {cors_origins: [\"*\"]}\n"));
    let answer = open.ask(&Ask::chat("r").header("origin", "https://any.example"));
    assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (200, Some("*")), "{answer:?}");
    assert_eq!(open.ask(&preflight("https://any.example")).status(), 204);
    let closed = Gateway::start(providers.yaml(""));
    assert_eq!(closed.ask(&preflight("https://any.example")).status(), 405);
    let answer = closed.ask(&Ask::chat("r").header("origin", "https://any.example"));
    assert!(!answer.head.contains("access-control") && !answer.head.contains("vary"), "{answer:?}");
}
