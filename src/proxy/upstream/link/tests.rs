//! What only shows on a link itself: a socket that takes nothing, and what the pieces of a large body hold on to.

use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::super::tests::jam;
use super::*;

fn run(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

fn link_of(socket: TcpStream, endpoint: Arc<Endpoint>, is_reused: bool) -> Box<Link> {
    let mut link = Link::new(endpoint, Socket::Plain(socket));
    link.is_reused = is_reused;
    Box::new(link)
}

#[test]
fn what_comes_on_a_reused_link_before_anything_was_sent_is_no_answer() {
    for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nX", "HTTP/1.1 2", ""] {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
            let pool = Rc::new(Pool::new());
            let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut old, _) = listener.accept().await.unwrap();
            jam(&socket).await;
            pool.put(link_of(socket, pool.endpoint(&uri, None), true), clock::now());
            let now = clock::now();
            let head = now.plus(Duration::from_secs(5));
            let limits = Limits { begun: now, connect: head, head };
            let headers = |_: &mut HeaderMap| {};
            let request = Request { uri: &uri, method: &Method::GET, tls: None, headers: &headers, body: &[] };
            let serve = async {
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                old.write_all(answer.as_bytes()).await.unwrap();
                let kept = Some(old).filter(|_| !answer.is_empty());
                let (mut fresh, _) = listener.accept().await.unwrap();
                fresh.write_all(b"HTTP/1.1 204 Fine\r\n\r\n").await.unwrap();
                (kept, fresh)
            };
            let asked =
                async { send(&pool, &request, limits).await.map(|answer| (answer.status.as_u16(), answer.resent)) };
            let (asked, _) =
                tokio::join!(asked, async { tokio::time::timeout(Duration::from_secs(4), serve).await.map(drop) });
            assert_eq!(asked, Ok((204, true)), "{answer:?}");
        });
    }
}

#[test]
fn small_reads_of_a_large_body_hold_no_more_than_twice_its_bytes() {
    const PIECE: usize = 1_448;
    const LENGTH: usize = 300 * PIECE;
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = Rc::new(Pool::new());
        let uri = Uri::from_static("http://h");
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let link = link_of(socket, pool.endpoint(&uri, None), false);
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        let head = head::read(text.as_bytes(), &mut Default::default()).ok().unwrap().1;
        let mut answer = link.answer(Arrived { head, content: Bytes::new(), is_in_step: true }, &pool);
        actix_rt::spawn(async move {
            for _ in 0..LENGTH / PIECE {
                server.write_all(&[b'x'; PIECE]).await.unwrap();
                for _ in 0..5 {
                    tokio::time::sleep(Duration::from_micros(1)).await;
                }
            }
        });
        let (mut pieces, mut read) = (Vec::new(), 0);
        while (read as u64) + LARGE_BYTES <= LENGTH as u64 {
            let piece = answer.body.chunk().await.unwrap().unwrap();
            read += piece.len();
            pieces.push(piece);
        }
        // Pieces of one block lie behind each other.
        let is_apart = |pair: &&[Bytes]| pair[0].as_ptr_range().end != pair[1].as_ptr();
        let blocks = 1 + pieces.windows(2).filter(is_apart).count();
        assert!(blocks * LARGE_PIECE <= 2 * read, "{blocks} blocks for {} pieces of {read} bytes", pieces.len());
    });
}
