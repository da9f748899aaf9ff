//! Events and comments as bytes, in the spelling that a fault wants.

use std::fmt::Write;

use crate::simulator::answer::Event;
use crate::simulator::fault::Wire;

/// A comment, for a stream that sends nothing else.
pub(super) const COMMENT: &[u8] = b": simulated\n\n";

/// The same as a chunk.
pub(super) const COMMENT_CHUNK: &[u8] = b"d\r\n: simulated\n\n\r\n";

/// A comment between events.
pub(super) fn comment(wire: &Wire) -> String {
    let end = wire.line_end.bytes();
    format!(": simulated{end}{end}")
}

/// An event as a block, in the fault's spelling.
pub(super) fn block(wire: &Wire, index: usize, event: &Event) -> Vec<u8> {
    let end = wire.line_end.bytes();
    let mut block = String::with_capacity(event.data.len() + 32);
    if wire.bom && index == 0 {
        block.push('\u{feff}');
    }
    if wire.ids {
        let _ = write!(block, "id: {index}{end}");
    }
    if let Some(name) = event.name {
        let _ = write!(block, "event: {name}{end}");
    }
    if wire.multi_line_data && !event.is_done() {
        for line in lines(&event.data) {
            let _ = write!(block, "data: {line}{end}");
        }
    } else {
        let _ = write!(block, "data: {}{end}", event.data);
    }
    block.push_str(end);
    if index == 0 && wire.retry {
        let _ = write!(block, "retry: 3000{end}{end}");
    }
    if index == 0 && wire.event_without_data {
        let _ = write!(block, "event: ping{end}{end}");
    }
    block.into_bytes()
}

/// One JSON document over several lines.
fn lines(data: &str) -> Vec<String> {
    let document: Result<serde_json::Value, _> = serde_json::from_str(data);
    let text =
        document.and_then(|document| serde_json::to_string_pretty(&document)).unwrap_or_else(|_| data.to_owned());
    text.lines().map(str::to_owned).collect()
}
