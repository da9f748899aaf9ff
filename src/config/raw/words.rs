//! Words that come in our spelling and in LiteLLM's: strategies and error types.

use super::super::Strategy;
use super::super::context::Located;
use super::super::item::Item;
use super::super::suggest;
use super::resilience::Maybe;
use crate::error::{ErrorSet, ErrorType};

/// Ours and, for what LiteLLM calls the same.
const STRATEGIES: [(&str, Strategy); 9] = [
    ("weighted_round_robin", Strategy::WeightedRoundRobin),
    ("round_robin", Strategy::RoundRobin),
    ("random", Strategy::Random),
    ("random_weighted", Strategy::RandomWeighted),
    ("least_busy", Strategy::LeastBusy),
    ("lowest_latency", Strategy::LowestLatency),
    ("simple_shuffle", Strategy::RandomWeighted),
    ("weighted_random", Strategy::RandomWeighted),
    ("latency_based_routing", Strategy::LowestLatency),
];
/// How many of them are ours, for the help.
const OWN_STRATEGIES: usize = 6;

/// A `load_balance_strategy`.
pub(in super::super) fn strategy(item: &Item<'_>) -> Maybe<Strategy> {
    let written = item.written("a strategy")?;
    if let Some(found) = strategy_named(&written.value.text) {
        return Some(Located { value: found, at: written.at });
    }
    let own = || STRATEGIES[..OWN_STRATEGIES].iter().map(|(word, _)| *word);
    let near = suggest::nearest(&written.value.text, own()).map(|near| format!("did you mean `{near}`? "));
    let help = format!("{}it can be {}", near.unwrap_or_default(), suggest::list(own()));
    let message = format!("{} is no strategy", written.value.shown());
    item.context.error("BW510", &written.at, message, Some(help));
    None
}

/// The strategy of that name, in our spelling or LiteLLM's.
pub(in super::super) fn strategy_named(name: &str) -> Option<Strategy> {
    let plain = name.trim().to_ascii_lowercase().replace('-', "_");
    STRATEGIES.iter().find(|(word, _)| *word == plain).map(|(_, strategy)| *strategy)
}

/// LiteLLM's exception classes and the type that each means.
const CLASSES: [(&str, ErrorType); 17] = [
    ("RateLimitError", ErrorType::RateLimit),
    ("Timeout", ErrorType::Timeout),
    ("APITimeoutError", ErrorType::Timeout),
    ("InternalServerError", ErrorType::ServiceUnavailable),
    ("ServiceUnavailableError", ErrorType::ServiceUnavailable),
    ("BadGatewayError", ErrorType::ServiceUnavailable),
    ("APIError", ErrorType::ServiceUnavailable),
    ("APIConnectionError", ErrorType::ApiConnection),
    ("AuthenticationError", ErrorType::Authentication),
    ("PermissionDeniedError", ErrorType::PermissionDenied),
    ("NotFoundError", ErrorType::NotFound),
    ("ContextWindowExceededError", ErrorType::ContextWindowExceeded),
    ("ContentPolicyViolationError", ErrorType::ContentPolicyViolation),
    ("BadRequestError", ErrorType::BadRequest),
    ("InvalidRequestError", ErrorType::BadRequest),
    ("UnprocessableEntityError", ErrorType::BadRequest),
    ("BudgetExceededError", ErrorType::InsufficientQuota),
];

pub(super) fn error_type(item: &Item<'_>) -> Option<ErrorType> {
    let written = item.written("an error type")?;
    let text = written.value.text.trim();
    let class = || CLASSES.iter().find(|(class, _)| class.eq_ignore_ascii_case(text)).map(|(_, kind)| *kind);
    if let Some(found) = ErrorType::from_name(&text.to_ascii_lowercase()).or_else(class) {
        return Some(found);
    }
    let names = || ErrorType::ALL.into_iter().map(ErrorType::name);
    let help = match suggest::nearest(text, names().chain(CLASSES.iter().map(|(class, _)| *class))) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it can be {}", suggest::list(names())),
    };
    item.context.error("BW511", &written.at, format!("{} is no error type", written.value.shown()), Some(help));
    None
}

/// A `fallback_on_error_types` list.
pub(in super::super) fn error_types(item: &Item<'_>) -> Maybe<ErrorSet> {
    let items = item.one_or_more();
    let kinds: Vec<Option<ErrorType>> = items.iter().map(error_type).collect();
    let known: Vec<ErrorType> = kinds.iter().copied().flatten().collect();
    let is_complete = kinds.iter().all(Option::is_some);
    let is_caller = |kind: &ErrorType| {
        matches!(kind, ErrorType::BadRequest | ErrorType::ContextWindowExceeded | ErrorType::ContentPolicyViolation)
    };
    if let Some(at) = kinds.iter().position(|kind| *kind == Some(ErrorType::BadRequest)) {
        let message = "`bad_request_error` fails over: every bad request is paid for twice";
        item.context.warning("BW512", &items[at].at, message, None);
    } else if is_complete && !known.is_empty() && known.iter().all(is_caller) {
        let message = "only faults of the caller fail over: no failure of a backend does";
        item.context.warning("BW512", &item.at, message, None);
    }
    let set = known.into_iter().fold(ErrorSet::EMPTY, ErrorSet::with);
    Some(Located { value: set, at: item.at.clone() })
}
