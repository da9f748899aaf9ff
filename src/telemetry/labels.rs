//! The closed sets of label values (spec/observability.md 1.2): no label value ever comes from a client.
//!
//! Every set is a [`Label`], so that a set of metric handles is an array and a count is an index and an add.

mod attempt;
mod backend;
mod process;
mod request;

pub use self::attempt::{AttemptKind, AttemptOutcome, Code, FailureDetail, HedgeResult, ResendReason};
pub use self::backend::{BlockKind, CheckResult, CircuitState, PassedOver, ProbeResult};
pub use self::process::{ActorKind, LogKind, ReloadResult, SpanResult};
pub use self::request::{
    Asked, AuthFailure, Endpoint, ExhaustedReason, FallbackAfter, FallbackResult, RequestOutcome, StreamEnd,
    TokenDetail, TokenType,
};
use crate::error::ErrorType;

/// A closed set of label values.
pub trait Label: Copy + 'static {
    /// All values in the order of their indexes.
    const ALL: &'static [Self];
    /// The stable word for labels and logs.
    fn name(self) -> &'static str;
    /// Position in [`Label::ALL`].
    fn index(self) -> usize;
}

/// Sets of labels, each with its words: `Variant = "word"`.
macro_rules! words {
    ($($(#[$set:meta])* pub enum $name:ident { $($(#[$label:meta])* $variant:ident = $word:literal,)+ })+) => {$(
        $(#[$set])*
        pub enum $name {
            $($(#[$label])* $variant,)+
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )+};
}
use words;

impl Label for ErrorType {
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        Self::name(self)
    }

    fn index(self) -> usize {
        Self::index(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<L: Label>() {
        let mut names = std::collections::BTreeSet::new();
        for (index, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), index);
            assert!(names.insert(label.name()), "{} stands twice", label.name());
            assert!(label.name().bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_')));
        }
    }

    #[test]
    fn indexes_are_positions_and_names_are_unique() {
        check::<ErrorType>();
        check::<AttemptOutcome>();
        check::<CircuitState>();
        check::<Code>();
        check::<RequestOutcome>();
        check::<AttemptKind>();
        check::<ExhaustedReason>();
        check::<PassedOver>();
        check::<BlockKind>();
        check::<FailureDetail>();
        check::<StreamEnd>();
        check::<Endpoint>();
        check::<AuthFailure>();
        check::<ResendReason>();
        check::<FallbackAfter>();
        check::<FallbackResult>();
        check::<HedgeResult>();
        check::<ProbeResult>();
        check::<CheckResult>();
        check::<TokenType>();
        check::<TokenDetail>();
        check::<ReloadResult>();
        check::<ActorKind>();
        check::<LogKind>();
        check::<SpanResult>();
        check::<Asked>();
    }

    #[test]
    fn unknown_statuses_share_a_label() {
        assert_eq!(Code::of(429).name(), "429");
        assert_eq!(Code::of(418).name(), "other");
        assert_eq!(Code::of(0), Code::of(599));
    }
}
