//! `embeddings`: vectors that are a function of the input and the model, the same on every backend.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Call;
use crate::simulator::answer::Answer;
use crate::simulator::base64;
use crate::simulator::provider_error::Refusal;

/// Most inputs of one request, as OpenAI has it.
const MAX_INPUTS: usize = 2048;

/// Most numbers of one vector, a little above the largest model's.
const MAX_DIMENSIONS: u64 = 4096;

/// The answer to an embeddings request.
pub(super) fn answer(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input = call.fields.get("input").ok_or(Refusal::MissingField("input"))?;
    let inputs = inputs(input).ok_or(Refusal::InvalidValue {
        field: "input",
        problem: "must be a text, texts, or tokens, at least one and at most 2048",
    })?;
    let dimensions = call.fields.number("dimensions").unwrap_or(call.settings.dimensions as u64);
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Err(Refusal::InvalidValue { field: "dimensions", problem: "must be 1 to 4096" });
    }
    let as_text = call.fields.text("encoding_format") == Some("base64");
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = vector(call.model, input, dimensions as usize);
            let embedding = if as_text { packed(&vector).into() } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let tokens = call.fields.prompt_tokens();
    let body = json!({
        "object": "list", "data": data, "model": call.snapshot(),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    Ok(Answer { lead: call.pace.ttft, ..Answer::json(200, body.to_string()) })
}

/// The inputs one by one, each as bytes.
fn inputs(input: &Value) -> Option<Vec<String>> {
    let inputs = match input {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) if items.iter().all(Value::is_u64) => vec![input.to_string()],
        Value::Array(items) => items.iter().map(one).collect::<Option<Vec<_>>>()?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    (1..=MAX_INPUTS).contains(&inputs.len()).then_some(inputs).filter(|inputs| inputs[0] != "[]")
}

fn one(item: &Value) -> Option<String> {
    match item {
        Value::String(text) => Some(text.clone()),
        Value::Array(_) => Some(item.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// A unit vector drawn from the digest of model and input.
fn vector(model: &str, input: &str, dimensions: usize) -> Vec<f32> {
    let digest = Sha256::new().chain_update(model).chain_update([0]).chain_update(input).finalize();
    let seed = digest.iter().take(8).fold(0, |seed: u64, byte| seed << 8 | u64::from(*byte));
    let mut rng = fastrand::Rng::with_seed(seed);
    let numbers: Vec<f32> = (0..dimensions).map(|_| rng.f32() * 2.0 - 1.0).collect();
    let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    numbers.into_iter().map(|number| number / length).collect()
}

/// Little-endian floats as base64: what openai-python asks for by itself.
fn packed(vector: &[f32]) -> String {
    base64::encode(&vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_depend_on_the_input_only() {
        assert_eq!(vector("m", "a", 3), vector("m", "a", 3));
        assert_ne!(vector("m", "a", 3), vector("m", "b", 3));
        let length: f32 = vector("m", "a", 512).iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-3);
    }

    #[test]
    fn inputs_are_texts_or_tokens() {
        let count = |text: &str| inputs(&serde_json::from_str(text).unwrap()).map(|inputs| inputs.len());
        let table = [
            (r#""a""#, Some(1)),
            (r#"["a","b"]"#, Some(2)),
            ("[1,2,3]", Some(1)),
            ("[[1,2],[3]]", Some(2)),
            ("[]", None),
            ("{}", None),
            (r#"["a",null]"#, None),
        ];
        for (text, expected) in table {
            assert_eq!(count(text), expected, "{text}");
        }
    }
}
