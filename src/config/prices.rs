//! What a backend's tokens cost, in LiteLLM's words for it.

use super::scalar;
use super::section::Section;

/// Prices in US dollars per token. What is not written costs nothing, or as much as any other token of its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prices {
    /// Prompt tokens.
    pub input: f64,
    /// Completion tokens.
    pub output: f64,
    /// Prompt tokens that came from a cache; none: as any other.
    pub cached_input: Option<f64>,
    /// Prompt tokens that were written to a cache; none: as any other.
    pub cache_write_input: Option<f64>,
}

/// A price's name in LiteLLM's words.
type Key = &'static str;

const INPUT: Key = "input_cost_per_token";
const OUTPUT: Key = "output_cost_per_token";
const CACHED: Key = "cache_read_input_token_cost";
const CACHE_WRITE: Key = "cache_creation_input_token_cost";

/// Reads an entry's prices: beside the model, else in `model_info`, as LiteLLM does; none if neither says any.
pub(super) fn read(params: &Section<'_>, info: Option<&Section<'_>>) -> Option<Prices> {
    let price = |key| one(params, key).or_else(|| one(info?, key));
    let [input, output, cached_input, cache_write_input] = [INPUT, OUTPUT, CACHED, CACHE_WRITE].map(price);
    (input.is_some() || output.is_some()).then(|| Prices {
        input: input.unwrap_or(0.0),
        output: output.unwrap_or(0.0),
        cached_input,
        cache_write_input,
    })
}

fn one(section: &Section<'_>, key: Key) -> Option<f64> {
    let read = section.read(key, scalar::number)?;
    if read.value.is_finite() && 0.0 <= read.value {
        return Some(read.value);
    }
    let help = "give US dollars per token, such as 0.0000025".to_owned();
    section.item.context.error("BW205", &read.at, format!("`{key}` is no price"), Some(help));
    None
}

impl Prices {
    /// Every price that is written, under its key.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (Key, f64)> {
        let optional = [(CACHED, self.cached_input), (CACHE_WRITE, self.cache_write_input)];
        let optional = optional.into_iter().filter_map(|(key, price)| Some((key, price?)));
        [(INPUT, self.input), (OUTPUT, self.output)].into_iter().chain(optional)
    }
}
