//! Heads and bodies that are read in one way only, under any split.

use proptest::prelude::*;

use super::*;

fn head(text: &str) -> Head {
    read_head(text.as_bytes())
}

#[test]
fn heads_are_told_apart() {
    let table = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", Some(Body::Length(5)), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some(Body::Complete), false),
        ("HTTP/1.1 204 No Content\r\n\r\n", Some(Body::Complete), false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Some(Body::Chunked(Chunk::Size(0, false, 0))), false),
        ("HTTP/1.1 200 OK\r\n\r\n", Some(Body::UntilClose), true),
        ("HTTP/1.0 200 OK\r\n\r\n", Some(Body::UntilClose), false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", None, false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", None, false),
        ("HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n", None, false),
        ("SSH-2.0-OpenSSH\r\n\r\n", None, false),
    ];
    for (text, body, close_delimited) in table {
        let expected = match body {
            None => Head::Invalid,
            Some(body) => {
                let length = text.find("\r\n\r\n").unwrap() + 4;
                Head::Final { length, body, close_delimited }
            }
        };
        assert_eq!(head(text), expected, "{text:?}");
    }
}

#[test]
fn interim_and_partial_heads() {
    assert_eq!(head("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200"), Head::Interim(37));
    assert_eq!(head("HTTP/1.1 100 Continue\r\n\r\n"), Head::Interim(25));
    assert_eq!(head("HTTP/1.1 200 OK\r\ncontent-le"), Head::Partial);
    assert_eq!(read_head(&vec![b'a'; MAX_HEAD_BYTES + 1]), Head::Invalid);
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(MAX_HEAD_BYTES));
    assert_eq!(head(&long), Head::Invalid);
}

#[test]
fn the_end_of_a_head_in_pieces_is_found_without_looking_at_all_of_it_again() {
    for end in ["\r\n\r\n", "\n\n", "\n\r\n"] {
        let text = format!("HTTP/1.1 200 OK\r\nx: a{end}");
        for seen in 0..text.len() {
            assert!(may_be_over(text.as_bytes(), seen), "{text:?} after {seen}");
            assert!(!may_be_over(&text.as_bytes()[..seen], 0), "{text:?} up to {seen}");
        }
    }
}

#[test]
fn only_two_whole_line_ends_end_a_head() {
    for text in [
        "HTTP/1.1 200 OK\ncontent-length: 3\n\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\n\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\n\nabc\r\n\r\nde",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\nabc\r\n\r\nde",
        "\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n",
    ] {
        assert_eq!(head(text), Head::Invalid, "{text:?}");
    }
}

fn feed(body: Body, wire: &str, step: usize) -> (Body, usize) {
    let mut body = body;
    let mut taken = 0;
    for piece in wire.as_bytes().chunks(step) {
        taken += body.take(piece);
    }
    (body, taken)
}

#[test]
fn chunked_bodies_end_where_they_end_under_any_split() {
    let start = Body::Chunked(Chunk::Size(0, false, 0));
    let table = [
        ("5\r\nhello\r\n0\r\n\r\n", Body::Complete, 15),
        ("5;ext=1\r\nhello\r\n0\r\nx: y\r\n\r\nHTTP", Body::Complete, 27),
        ("A\r\n0123456789\r\n", Body::Chunked(Chunk::Size(0, false, 0)), 15),
        ("5\r\nhel", Body::Chunked(Chunk::Data(2)), 6),
        ("0\r\n", Body::Chunked(Chunk::Trailer(0, 0)), 3),
    ];
    for (wire, expected, taken) in table {
        for step in 1..=wire.len() {
            assert_eq!(feed(start, wire, step), (expected, taken), "{wire:?} by {step}");
        }
    }
    assert_eq!(feed(start, "00000000000000a\r\n", 1).0, Body::Chunked(Chunk::Data(10)));
    for broken in ["g\r\n", "\r\n", "5\r\nhelloX", "ffffffffffffffffff\r\n", "00000000000000005"] {
        assert_eq!(feed(start, broken, 1).0, Body::Broken, "{broken:?}");
    }
}

#[test]
fn a_length_takes_no_more_than_its_own() {
    assert_eq!(feed(Body::Length(5), "hello!", 2), (Body::Complete, 5));
    assert_eq!(feed(Body::Length(5), "hel", 1), (Body::Length(2), 3));
    assert!(!Body::Length(2).is_complete_at_end());
    assert!(Body::UntilClose.is_complete_at_end());
}

#[test]
fn what_two_parsers_could_read_differently_is_broken() {
    let start = Body::Chunked(Chunk::Size(0, false, 0));
    for wire in [
        "5\nhello\r\n",
        "5\r\r\nhello\r\n",
        "5;a\nhello\r\n",
        "5;a\rb\r\nhello\r\n",
        "5 5\r\nhello\r\n",
        "5\r\nhello\n",
        "5\r\nhello\r\r\n",
        "0\r\n\n",
        "0\r\nx: y\n\r\n",
        "0\r\n\r\r\n",
        " 5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "+5\r\nhello\r\n",
    ] {
        assert_eq!(feed(start, wire, 1).0, Body::Broken, "{wire:?}");
    }
    assert_eq!(feed(start, "5 \t;a=b\r\nhello\r\n0  \r\n\r\n", 1).0, Body::Complete);
    let endless = format!("0\r\n{}", "x: y\r\n".repeat(MAX_CHUNK_LINE_BYTES));
    assert_eq!(feed(start, &endless, 7).0, Body::Broken);
    for text in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rcontent-length: 5\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
    ] {
        assert_eq!(head(text), Head::Invalid, "{text:?}");
    }
}

#[test]
fn content_is_handed_over_without_the_framing_of_chunks() {
    for step in 1..20 {
        let (mut body, mut content) = (Body::Chunked(Chunk::START), Vec::new());
        for piece in b"5;a\r\nhello\r\n7\r\n, world\r\n0\r\nx: y\r\n\r\n".chunks(step) {
            assert_eq!(body.take_content(piece, |bytes| content.extend_from_slice(bytes)), piece.len());
        }
        assert_eq!((body, content.as_slice()), (Body::Complete, &b"hello, world"[..]));
    }
}

#[test]
fn chunks_at_a_glance_are_those_that_are_whole_and_plain() {
    let table = [
        ("5\r\nhello\r\n", Some(("hello", 10))),
        ("05\r\nhello\r\n7", Some(("hello", 11))),
        ("A\r\n0123456789\r\n", Some(("0123456789", 15))),
        ("00000A\r\n0123456789\r\n", Some(("0123456789", 20))),
        ("000000A\r\n0123456789\r\n", None),
        ("5;a\r\nhello\r\n", None),
        ("5\r\nhello\r", None),
        ("5\r\nhello!\n", None),
        ("5\nhello\r\n", None),
        ("0\r\n\r\n", None),
        ("5", None),
        ("\r\n\r\n", None),
    ];
    for (text, expected) in table {
        let expected = expected.map(|(data, after)| (data.as_bytes(), after));
        assert_eq!(whole_chunk(text.as_bytes()), expected, "{text:?}");
    }
}

proptest! {
    #[test]
    fn chunks_say_the_same_at_a_glance_and_byte_by_byte(
        text in prop::collection::vec(
            prop::sample::select(vec![
                "5\r\nhello\r\n", "1\r\n\r\r\n", "5;x\r\nhello\r\n", "2\r\nab\n", "0\r\n\r\n", "fffff\r\nx", "0a\r\n0123456789\r\n",
            ]),
            0..8,
        ),
        cuts in prop::collection::vec(0..60_usize, 0..6),
    ) {
        let text = text.concat().into_bytes();
        let read = |cuts: &mut dyn Iterator<Item = usize>| {
            let (mut body, mut content, mut taken, mut from) = (Body::Chunked(Chunk::START), Vec::new(), 0, 0);
            for to in cuts {
                taken += body.take_content(&text[from..to], |bytes| content.extend_from_slice(bytes));
                from = to;
            }
            (body, content, taken)
        };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([text.len()]).collect();
        cuts.sort_unstable();
        prop_assert_eq!(read(&mut cuts.into_iter()), read(&mut (0..=text.len())));
    }
}
