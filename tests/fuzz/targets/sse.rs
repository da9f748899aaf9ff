//! Event streams: however they are cut on the way, they mean the same, no byte is lost, and nothing panics.
#![no_main]

use breakwater::proxy::sse::blocks::Splitter;
use breakwater::proxy::sse::dialect::Api;
use breakwater::proxy::sse::stream::{EventStream, Options, Step};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

const APIS: [Api; 3] = [Api::Chat, Api::Responses, Api::Other];

// The first bytes say whose stream it is and where it is cut.
fuzz_target!(|input: (u8, bool, Vec<u8>, &[u8])| {
    let (choice, drop_usage_event, cuts, text) = input;
    let whole = split(text, &[]);
    let cut = split(text, &cuts);
    assert_eq!(whole, cut, "blocks depend on how they are cut");
    // A last `[DONE]` without its empty line is made whole.
    let came = whole.len() - usize::from(whole.last().is_some_and(|last| last == "data: [DONE]\n\n"));
    let flat: Vec<u8> = whole[..came].iter().flat_map(|block| block.iter().copied()).collect();
    assert!(text.starts_with(&flat) || text.starts_with(b"\xef\xbb\xbf"), "a block holds bytes that did not come");
    let options = Options {
        api: APIS[usize::from(choice) % APIS.len()],
        holdback: usize::from(choice) * 8,
        drop_usage_event,
        is_background: choice & 64 != 0,
    };
    assert_eq!(steps(options, text, &[]), steps(options, text, &cuts), "steps depend on how they are cut");
});

fn pieces<'t>(text: &'t [u8], cuts: &[u8]) -> impl Iterator<Item = Bytes> + 't {
    let mut rest = text;
    let sizes: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) + 1).collect();
    let mut turn = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let size = sizes.get(turn % sizes.len().max(1)).copied().unwrap_or(rest.len()).min(rest.len());
        turn += 1;
        let (piece, behind) = rest.split_at(size);
        rest = behind;
        Some(Bytes::copy_from_slice(piece))
    })
}

fn split(text: &[u8], cuts: &[u8]) -> Vec<Bytes> {
    let mut splitter = Splitter::default();
    let mut blocks = Vec::new();
    for piece in pieces(text, cuts) {
        splitter.push(piece);
        blocks.extend(splitter.by_ref().map(|block| block.bytes));
        assert!(splitter.held_bytes() <= text.len());
    }
    blocks.extend(splitter.finish().map(|block| block.bytes));
    blocks
}

fn steps(options: Options, text: &[u8], cuts: &[u8]) -> (Vec<Step>, String) {
    let mut stream = EventStream::new(options);
    let mut steps = Vec::new();
    for piece in pieces(text, cuts) {
        stream.push(piece);
        steps.extend(stream.by_ref());
    }
    stream.close();
    steps.extend(stream.by_ref());
    let end = format!("{:?}", stream.end());
    (steps, end)
}
