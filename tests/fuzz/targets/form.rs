//! Multipart forms: the model's value becomes another, every other byte stays, and the form is still one.
#![no_main]

use breakwater::proxy::multipart::{is_multipart, scan};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (content_type, text) = input;
    let _ = is_multipart(content_type);
    for content_type in [content_type, "multipart/form-data; boundary=B"] {
        let Ok(form) = scan(content_type, Bytes::copy_from_slice(text)) else { continue };
        assert_eq!(form.bytes(), text);
        let parts = form.rewrite("another");
        let written: Vec<u8> = parts.slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        assert_eq!(written.len(), parts.length);
        if form.model().is_some() {
            let again = scan(content_type, Bytes::from(written)).expect("a form became none");
            assert_eq!(again.model(), Some("another"));
        }
    }
});
