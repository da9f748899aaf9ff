//! Moderations, speech, transcriptions, images, files and batches: small, but with the right shapes.

use bytes::Bytes;
use memchr::memmem;
use serde_json::json;

use super::Call;
use crate::simulator::answer::Answer;
use crate::simulator::base64;
use crate::simulator::objects::{Object, Objects};
use crate::simulator::paths::Operation;
use crate::simulator::provider_error::Refusal;
use crate::simulator::request::Request;
use crate::simulator::settings::MAX_WORDS;

/// Bytes of simulated speech per word.
const SPEECH_BYTES_PER_WORD: usize = 512;

/// A grey PNG of one pixel.
const PIXEL: [u8; 67] = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00,
    0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a, 0x7e, 0x9b, 0x55, 0x00, 0x00, 0x00, 0x0a, 0x49,
    0x44, 0x41, 0x54, 0x08, 0xd7, 0x63, 0x68, 0x00, 0x00, 0x00, 0x82, 0x00, 0x81, 0xdd, 0x43, 0x6a, 0xf4, 0x00, 0x00,
    0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

/// Nothing is ever flagged.
pub(super) fn moderation(call: &Call<'_>) -> Result<Answer, Refusal> {
    if call.fields.get("input").is_none() {
        return Err(Refusal::MissingField("input"));
    }
    let body = json!({
        "id": call.id("modr-"), "model": call.snapshot(),
        "results": [{
            "flagged": false,
            "categories": {"hate": false, "self-harm": false, "sexual": false, "violence": false},
            "category_scores": {"hate": 0.0, "self-harm": 0.0, "sexual": 0.0, "violence": 0.0},
        }],
    });
    Ok(Answer::json(200, body.to_string()))
}

/// The input's words as silence.
pub(super) fn speech(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input = call.fields.text("input").ok_or(Refusal::MissingField("input"))?;
    if call.fields.get("voice").is_none() {
        return Err(Refusal::MissingField("voice"));
    }
    let words = input.split_whitespace().take(MAX_WORDS as usize).count();
    let lead = call.pace.whole(words, &mut call.rng);
    Ok(Answer { lead, ..Answer::whole(200, "audio/mpeg", vec![0; words * SPEECH_BYTES_PER_WORD]) })
}

/// Numbered words, whatever was said.
pub(super) fn transcription(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    if form_field(call.request, "file").is_none() {
        return Err(Refusal::MissingField("file"));
    }
    let words = call.words(&[]);
    let lead = call.pace.whole(words.len(), &mut call.rng);
    let text = words.concat();
    let answer = match form_field(call.request, "response_format").as_deref() {
        Some(b"text" | b"srt" | b"vtt") => Answer::whole(200, "text/plain; charset=utf-8", text + "\n"),
        Some(_) | None => Answer::json(200, json!({"text": text}).to_string()),
    };
    Ok(Answer { lead, ..answer })
}

/// One grey pixel per image.
pub(super) fn images(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    if call.fields.get("prompt").is_none() {
        return Err(Refusal::MissingField("prompt"));
    }
    let count = call.fields.number("n").unwrap_or(1);
    if !(1..=10).contains(&count) {
        return Err(Refusal::InvalidValue { field: "n", problem: "must be 1 to 10" });
    }
    let data: Vec<_> = (0..count).map(|_| json!({"b64_json": base64::encode(&PIXEL)})).collect();
    Ok(Answer { lead: call.pace.ttft, ..Answer::json(200, json!({"created": call.created, "data": data}).to_string()) })
}

/// Keeps a file.
pub(super) fn upload(call: &Call<'_>, objects: &mut Objects) -> Result<Answer, Refusal> {
    let content = form_field(call.request, "file").ok_or(Refusal::MissingField("file"))?;
    let purpose = form_field(call.request, "purpose").ok_or(Refusal::MissingField("purpose"))?;
    let id = call.id("file-");
    let json = json!({
        "id": id, "object": "file", "bytes": content.len(), "created_at": call.created,
        "filename": "upload", "purpose": String::from_utf8_lossy(&purpose), "status": "processed",
    });
    let answer = Answer::json(200, json.to_string());
    objects.insert(id, Object { kind: Operation::File, json, content });
    Ok(answer)
}

/// Accepts a batch, which then never makes progress.
pub(super) fn create_batch(call: &Call<'_>, objects: &mut Objects) -> Result<Answer, Refusal> {
    let input = call.fields.text("input_file_id").ok_or(Refusal::MissingField("input_file_id"))?;
    if objects.get(input).is_none_or(|object| object.kind != Operation::File) {
        return Err(Refusal::NoSuchObject(input.to_owned()));
    }
    let id = call.id("batch_");
    let json = json!({
        "id": id, "object": "batch", "endpoint": call.fields.get("endpoint"), "input_file_id": input,
        "completion_window": call.fields.get("completion_window"), "status": "validating", "created_at": call.created,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
    });
    let answer = Answer::json(200, json.to_string());
    objects.insert(id, Object { kind: Operation::Batch, json, content: Bytes::new() });
    Ok(answer)
}

/// A field of a multipart form; none if the body is no form or has no such field.
pub(in crate::simulator) fn form_field(request: &Request, name: &str) -> Option<Bytes> {
    let content_type = request.header_text("content-type")?;
    let boundary = content_type.split_once("boundary=")?.1.split(';').next()?.trim().trim_matches('"');
    if !content_type.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") || boundary.is_empty() {
        return None;
    }
    let delimiter = format!("--{boundary}");
    let body = request.body();
    let places: Vec<usize> = memmem::find_iter(body, delimiter.as_bytes()).collect();
    let parts = places.windows(2).map(|pair| body.slice(pair[0] + delimiter.len()..pair[1]));
    let wanted = format!("name=\"{name}\"");
    for part in parts {
        let Some(end) = memmem::find(&part, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&part[..end]);
        let is_wanted = head.split(['\n', ';']).any(|word| word.trim() == wanted);
        if is_wanted {
            let content = part.slice(end + 4..);
            return Some(content.slice(..content.len().saturating_sub(2)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_fields_are_found_in_any_order() {
        let head = "POST / HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=xyz\r\n\r\n";
        let body = "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\x00\r\n\x01\r\n\
                    --xyz\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--xyz--\r\n";
        let request = Request::parse(head.as_bytes()).unwrap().unwrap().with_body(body.into());
        assert_eq!(form_field(&request, "model").unwrap(), "whisper-1");
        assert_eq!(form_field(&request, "file").unwrap(), "\x00\r\n\x01");
        assert_eq!(form_field(&request, "filename"), None);
    }
}
