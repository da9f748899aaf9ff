//! One test per hazard of an HTTP client, over real sockets; each for a short request and for an upload, which awc carries.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock;

/// What the server does after reading one request.
#[derive(Clone)]
enum Act {
    Send(&'static str),
    /// Sends many bytes without being asked to stop, in one go.
    SendBytes(Vec<u8>),
    /// Lets the reader see what was sent so far on its own.
    Yield,
    /// Lets more than this time pass.
    Wait(Duration),
    Fin,
    Reset,
    Hang,
    /// Answers before the request's body has been read.
    EarlyAnswer(&'static str),
}

const OK_A: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nA";
const OK_B: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nB";

/// Serves one script per connection, one list of acts per request; returns the port.
async fn serve(connections: Vec<Vec<Vec<Act>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    actix_rt::spawn(async move {
        for script in connections {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            actix_rt::spawn(play(socket, script));
        }
    });
    port
}

async fn play(mut socket: TcpStream, script: Vec<Vec<Act>>) {
    for acts in script {
        let early = matches!(acts.first(), Some(Act::EarlyAnswer(_)));
        if !read_request(&mut socket, early).await {
            return;
        }
        for act in acts {
            match act {
                Act::Send(text) | Act::EarlyAnswer(text) => socket.write_all(text.as_bytes()).await.unwrap(),
                Act::SendBytes(bytes) => socket.write_all(&bytes).await.unwrap(),
                Act::Yield => {
                    for _ in 0..50 {
                        tokio::task::yield_now().await;
                    }
                }
                Act::Wait(time) => tokio::time::sleep(time + Duration::from_millis(50)).await,
                Act::Fin => return,
                Act::Reset => {
                    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
                    return;
                }
                Act::Hang => std::future::pending().await,
            }
        }
    }
    // An open, quiet connection until the client closes it.
    let _ = socket.read(&mut [0; 1]).await;
}

/// Reads one request, its body too unless the answer comes early. False at the connection's end.
async fn read_request(socket: &mut TcpStream, head_only: bool) -> bool {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4096];
        match socket.read(&mut piece).await {
            Ok(0) | Err(_) => return false,
            Ok(length) => request.extend_from_slice(&piece[..length]),
        }
        let Some(end) = memchr::memmem::find(&request, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |text| text.parse().unwrap());
        if head_only || request.len() >= end + 4 + length {
            return true;
        }
    }
}

/// Fills a socket's way out, whose other end does not read: the next write waits.
pub(super) async fn jam(socket: &TcpStream) {
    loop {
        socket.writable().await.unwrap();
        while socket.try_write(&[b'x'; 65_536]).is_ok() {}
        tokio::task::yield_now().await;
        if socket.try_write(b"x").is_err() {
            return;
        }
    }
}

fn soon() -> Limits {
    let now = clock::now();
    Limits { begun: now, connect: now.plus(Duration::from_secs(5)), head: now.plus(Duration::from_secs(10)) }
}

async fn send(upstream: &Upstream, port: u16, body: &[Bytes], limits: Limits) -> Result<Answer, Error> {
    let uri: Uri = format!("http://127.0.0.1:{port}/v1/chat/completions").parse().unwrap();
    let request = Request { uri: &uri, method: &Method::POST, tls: None, headers: &|_: &mut HeaderMap| {}, body };
    upstream.send(&request, limits).await
}

async fn read_all(answer: Answer) -> Result<String, Error> {
    let Answer { mut body, .. } = answer;
    let mut text = Vec::new();
    while let Some(chunk) = body.chunk().await {
        text.extend_from_slice(&chunk?);
    }
    Ok(String::from_utf8(text).unwrap())
}

/// A short request's body, and an upload's.
fn bodies() -> [Vec<Bytes>; 2] {
    let upload = Bytes::from(vec![b'x'; SHORT_BYTES + 1]);
    [vec![Bytes::from_static(b"{}")], vec![upload]]
}

async fn call(upstream: &Upstream, port: u16, body: &[Bytes]) -> Result<String, Error> {
    read_all(send(upstream, port, body, soon()).await?).await
}

fn run(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

/// One request against one connection's script, which ends alike by either way.
fn one(acts: Vec<Act>) -> Result<String, Error> {
    let [short, upload] = bodies().map(|body| {
        let mut outcome = Ok(String::new());
        actix_rt::System::new().block_on(async {
            let port = serve(vec![vec![acts.clone()]]).await;
            outcome = call(&Upstream::new(), port, &body).await;
        });
        outcome
    });
    assert_eq!(short, upload);
    short
}

#[test]
fn truncated_bodies_are_errors() {
    use Act::{Fin, Send};
    let truncated = [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ];
    for answer in truncated {
        assert_eq!(one(vec![Send(answer), Fin]), Err(Error::Truncated), "{answer:?}");
    }
}

#[test]
fn whole_bodies_are_not() {
    use Act::{Fin, Send, Yield};
    assert_eq!(one(vec![Send(OK_A), Fin]).as_deref(), Ok("A"));
    assert_eq!(
        one(vec![
            Send("HTTP/1.1 200 OK\r\ntransf"),
            Yield,
            Send("er-encoding: chunked\r\n\r\n5\r\nhe"),
            Yield,
            Send("llo\r\n0\r\n\r\n")
        ])
        .as_deref(),
        Ok("hello")
    );
    assert_eq!(one(vec![Send("HTTP/1.0 200 OK\r\n\r\nold"), Fin]).as_deref(), Ok("old"));
}

#[test]
fn a_close_delimited_body_is_not_empty() {
    use Act::{Fin, Send, Yield};
    assert_eq!(one(vec![Send("HTTP/1.1 200 OK\r\n\r\nall"), Yield, Send(" of it"), Fin]).as_deref(), Ok("all of it"));
}

#[test]
fn interim_answers_are_dropped_and_the_next_request_gets_its_own_answer() {
    use Act::{Send, Yield};
    for body in bodies() {
        run(async {
            let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
            let script = vec![
                vec![Send(early), Yield, Send("HTTP/1.1 100 Continue\r\n\r\n"), Send(early), Send(OK_A)],
                vec![Send(OK_B)],
            ];
            let port = serve(vec![script]).await;
            let upstream = Upstream::new();
            assert_eq!(call(&upstream, port, &body).await.as_deref(), Ok("A"));
            assert_eq!(call(&upstream, port, &body).await.as_deref(), Ok("B"));
        });
    }
}

#[test]
fn bytes_nobody_asked_for_never_reach_the_next_request() {
    use Act::{Send, Yield};
    let intruder = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nOTHER";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n\r\n";
    for (body, answer) in bodies().into_iter().flat_map(|body| [(body.clone(), OK_A), (body, chunked)]) {
        run(async {
            for late in [false, true] {
                let pause = if late { Yield } else { Send("") };
                let first = vec![vec![Send(answer), pause, Send(intruder)], vec![Send(intruder)]];
                let port = serve(vec![first, vec![vec![Send(OK_B)]]]).await;
                let upstream = Upstream::new();
                assert_eq!(call(&upstream, port, &body).await.as_deref(), Ok("A"));
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(call(&upstream, port, &body).await.as_deref(), Ok("B"), "late {late}");
            }
        });
    }
}

#[test]
fn a_connection_is_reused_and_a_stale_one_is_replaced_once_for_free() {
    use Act::{Fin, Reset, Send};
    for (body, end) in bodies().into_iter().flat_map(|body| [(body.clone(), Fin), (body, Reset)]) {
        run(async {
            // The first connection serves one request, reads a second and dies; the second connection answers.
            let port = serve(vec![vec![vec![Send(OK_A)], vec![end.clone()]], vec![vec![Send(OK_B)]]]).await;
            let upstream = Upstream::new();
            assert_eq!(call(&upstream, port, &body).await.as_deref(), Ok("A"));
            let answer = send(&upstream, port, &body, soon()).await.unwrap();
            assert!(answer.resent);
            assert_eq!(read_all(answer).await.as_deref(), Ok("B"));
        });
    }
}

#[test]
fn only_what_nobody_can_have_worked_on_is_sent_again() {
    let late = STALE_WITHIN + Duration::from_nanos(1);
    // Reused, sent, heard, lasted; stale.
    let table = [
        (true, false, false, Duration::ZERO, true),
        (true, false, false, late, true),
        (true, false, true, late, true),
        (true, true, false, STALE_WITHIN, true),
        (true, true, false, late, false),
        (true, true, true, Duration::ZERO, false),
        (false, false, false, Duration::ZERO, false),
        (false, true, false, Duration::ZERO, false),
    ];
    for (is_reused, has_sent, has_heard, lasted, is_stale) in table {
        let sight = Sight { is_reused, has_sent, has_heard };
        assert_eq!(sight.is_stale(lasted), is_stale, "{sight:?} after {lasted:?}");
    }
}

#[test]
fn a_server_that_ends_a_reused_connection_late_has_seen_the_request() {
    use Act::{Fin, Send, Wait};
    for body in bodies() {
        run(async {
            let port = serve(vec![vec![vec![Send(OK_A)], vec![Wait(STALE_WITHIN), Fin]], vec![vec![Send(OK_B)]]]).await;
            let upstream = Upstream::new();
            assert_eq!(call(&upstream, port, &body).await.as_deref(), Ok("A"));
            assert_eq!(call(&upstream, port, &body).await, Err(Error::Reset));
        });
    }
}

#[test]
fn a_reused_connection_that_dies_within_its_answer_is_an_error_and_not_repeated() {
    use Act::{Fin, Send};
    for (part, error) in
        [("HTTP/1.1 2", Error::Reset), ("HTTP/1.1 103 Early\r\n\r\n", Error::Reset), ("x\r\n\r\n", Error::Malformed)]
    {
        for body in bodies() {
            run(async {
                let port = serve(vec![vec![vec![Send(OK_A)], vec![Send(part), Fin]], vec![vec![Send(OK_B)]]]).await;
                let upstream = Upstream::new();
                assert_eq!(call(&upstream, port, &body).await.as_deref(), Ok("A"));
                assert_eq!(call(&upstream, port, &body).await, Err(error), "{part:?}");
            });
        }
    }
}

#[test]
fn a_connection_that_the_server_closes_or_that_was_left_early_is_not_used_again() {
    use Act::{Hang, Send};
    let closing = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nA";
    for body in bodies() {
        run(async {
            let port = serve(vec![vec![vec![Send(closing)], vec![Send(closing)]], vec![vec![Send(OK_B)]]]).await;
            let upstream = Upstream::new();
            assert_eq!(call(&upstream, port, &body).await.as_deref(), Ok("A"));
            assert_eq!(call(&upstream, port, &body).await.as_deref(), Ok("B"));
            let half = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nA";
            let port = serve(vec![vec![vec![Send(half), Hang]], vec![vec![Send(OK_B)]]]).await;
            let left = send(&upstream, port, &body, soon()).await.unwrap();
            drop(left);
            assert_eq!(call(&upstream, port, &body).await.as_deref(), Ok("B"));
        });
    }
}

#[test]
fn a_fresh_connection_that_dies_is_an_error_and_not_repeated() {
    for body in bodies() {
        run(async {
            let port = serve(vec![vec![vec![Act::Reset]], vec![vec![Act::Send(OK_B)]]]).await;
            assert_eq!(call(&Upstream::new(), port, &body).await, Err(Error::Reset));
        });
    }
}

/// Bodies that a server may leave unread: an upload, and the longest that a link of ours carries.
fn unread() -> [Vec<Bytes>; 2] {
    [vec![Bytes::from(vec![b'x'; 1 << 20]); 16], vec![Bytes::from(vec![b'x'; SHORT_BYTES])]]
}

#[test]
fn an_early_answer_during_an_upload_is_taken() {
    let refusal = "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\n\r\nbig";
    for body in unread() {
        // Ended with bytes unread, a connection is reset.
        for acts in [vec![Act::EarlyAnswer(refusal), Act::Hang], vec![Act::EarlyAnswer(refusal), Act::Fin]] {
            run(async {
                let port = serve(vec![vec![acts]]).await;
                let answer = send(&Upstream::new(), port, &body, soon()).await.unwrap();
                assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
                assert_eq!(read_all(answer).await.as_deref(), Ok("big"));
            });
        }
    }
}

#[test]
fn an_early_answer_in_pieces_is_taken_and_one_that_is_none_refused() {
    use Act::{EarlyAnswer, Hang, Send, Yield};
    let table = [
        (vec!["HTTP/1.1 413 Payload Too Large\r\ncontent-le", "ngth: 3\r\n\r\nbig"], Ok(413)),
        (
            vec!["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\n\r\nbig"],
            Ok(413),
        ),
        (vec!["HTTP/1.1 200 OK\r\ncontent-", "length: -1\r\n\r\n"], Err(Error::Malformed)),
    ];
    for ((texts, expected), body) in table.iter().flat_map(|case| unread().map(|body| (case.clone(), body))) {
        run(async {
            let acts = vec![EarlyAnswer(texts[0]), Yield, Send(texts[1]), Hang];
            let port = serve(vec![vec![acts]]).await;
            // As a task of its own, which nothing but its own waker polls.
            let sending = actix_rt::spawn(async move {
                send(&Upstream::new(), port, &body, soon()).await.map(|answer| answer.status.as_u16())
            });
            assert_eq!(sending.await.unwrap(), expected, "{texts:?}");
        });
    }
}

#[test]
fn a_broken_body_stays_broken() {
    use Act::{Fin, Send};
    for body in bodies() {
        run(async {
            let half = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nA";
            let port = serve(vec![vec![vec![Send(half), Fin]]]).await;
            let mut answer = send(&Upstream::new(), port, &body, soon()).await.unwrap();
            assert_eq!(answer.body.chunk().await, Some(Ok(Bytes::from_static(b"A"))));
            for _ in 0..3 {
                assert_eq!(answer.body.chunk().await, Some(Err(Error::Truncated)));
            }
        });
    }
}

#[test]
fn interim_answers_without_end_are_no_answer() {
    let endless = Act::SendBytes("HTTP/1.1 103 Early\r\n\r\n".repeat(1_000).into_bytes());
    run(async {
        let port = serve(vec![vec![vec![endless.clone(), Act::Send(OK_A)]]]).await;
        assert_eq!(call(&Upstream::new(), port, &bodies()[0]).await, Err(Error::Malformed));
    });
}

#[test]
fn what_is_no_http_answer_is_malformed() {
    for text in ["garbage\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello"] {
        assert_eq!(one(vec![Act::Send(text), Act::Fin]), Err(Error::Malformed), "{text:?}");
    }
    let broken = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n";
    assert_eq!(one(vec![Act::Send(broken), Act::Fin]), Err(Error::Malformed));
}

#[test]
fn a_large_answer_arrives_whole() {
    let mut wire = b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n".to_vec();
    wire.extend(std::iter::repeat_n(b'y', 3_000_000));
    assert_eq!(one(vec![Act::SendBytes(wire)]).map(|text| text.len()), Ok(3_000_000));
}

#[test]
fn limits_end_what_hangs() {
    run(async {
        let port = serve(vec![vec![vec![Act::Hang]]]).await;
        let now = clock::now();
        let limits =
            Limits { begun: now, connect: now.plus(Duration::from_secs(5)), head: now.plus(Duration::from_millis(30)) };
        let outcome = send(&Upstream::new(), port, &[], limits).await.map(|_| ());
        assert_eq!(outcome, Err(Error::HeadTimeout));
        let port = serve(vec![vec![vec![Act::Hang]]]).await;
        let now = clock::now();
        let limits =
            Limits { begun: now, connect: now.plus(Duration::from_secs(5)), head: now.plus(Duration::from_millis(30)) };
        let outcome = send(&Upstream::new(), port, &bodies()[1], limits).await.map(|_| ());
        assert_eq!(outcome, Err(Error::HeadTimeout));
    });
}

#[test]
fn a_refused_connection_and_an_unknown_host_are_told_apart() {
    run(async {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        for body in bodies() {
            assert_eq!(call(&Upstream::new(), port, &body).await, Err(Error::Connect));
        }
        let uri: Uri = "http://no-such-host.invalid:80/".parse().unwrap();
        let request =
            Request { uri: &uri, method: &Method::GET, tls: None, headers: &|_: &mut HeaderMap| {}, body: &[] };
        assert_eq!(Upstream::new().send(&request, soon()).await.map(|_| ()), Err(Error::Dns));
    });
}

#[test]
fn a_connection_alone_is_opened_and_its_failures_told_apart() {
    run(async {
        let tls = tls::client_config(None, false).unwrap();
        let uri = |port: u16| format!("http://127.0.0.1:{port}/v1/models").parse::<Uri>().unwrap();
        // Accepts, and closes at once.
        let open = uri(serve(vec![vec![]; 2]).await);
        // Nobody answers its handshakes.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let deaf = uri(silent.local_addr().unwrap().port());
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let soon = soon().head;
        assert_eq!(Upstream::connect(&open, None, soon).await, Ok(()));
        assert_eq!(Upstream::connect(&open, Some(&tls), soon).await, Err(Error::Tls));
        let limit = clock::now().plus(Duration::from_millis(50));
        assert_eq!(Upstream::connect(&deaf, Some(&tls), limit).await, Err(Error::ConnectTimeout));
        assert_eq!(Upstream::connect(&uri(closed), None, soon).await, Err(Error::Connect));
    });
}
