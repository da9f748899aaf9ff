//! A way in for the fuzz targets (`tests/fuzz`), which drive what no other room may.

use super::framing::{Body, Head};
use super::head;

/// Reads an answer as a link does, and its body in pieces of `size` bytes as well as in one.
///
/// # Panics
/// Where both do not come to the same, or more belongs to the body than is there.
pub fn answer(bytes: &[u8], size: usize) {
    let mut names = Default::default();
    let (length, read) = match head::read(bytes, &mut names) {
        Ok(read) => read,
        Err(Head::Interim(length)) => return assert!(length <= bytes.len()),
        Err(_) => return,
    };
    // Once more, by the names that are known now.
    let again = head::read(bytes, &mut names).ok().map(|(length, _)| length);
    assert_eq!(again, Some(length), "known names change what is read");
    let rest = &bytes[length..];
    let (whole, cut) = (take(read.body, rest, rest.len().max(1)), take(read.body, rest, size.max(1)));
    assert_eq!(whole, cut, "a body depends on how it is cut");
    assert!(whole.0.len() <= rest.len() && whole.1 <= rest.len());
}

/// The content, how many bytes belong to the body, and whether it is whole at the end.
fn take(mut body: Body, bytes: &[u8], size: usize) -> (Vec<u8>, usize, bool) {
    let (mut content, mut taken) = (Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let of_this = body.take_content(piece, |bytes| content.extend_from_slice(bytes));
        taken += of_this;
        if of_this < piece.len() {
            break;
        }
    }
    (content, taken, body.is_complete_at_end())
}
