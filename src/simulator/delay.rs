//! A length of time that is drawn: fixed, or from a distribution, or from a list that is cycled. All numbers are milliseconds.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::{Serialize, Serializer};

/// Longest drawn wait: no test waits longer, and a lognormal tail must not park a connection for days.
const MAX_DELAY: Duration = Duration::from_secs(3600);

/// z of the 99th percentile of a standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;

/// How long to wait, in milliseconds: `250`, `{"uniform":[100,400]}`, `{"lognormal":{"p50":300,"p99":4000}}`,
/// `{"exp":200}` (the mean) or `{"list":[10,20,500]}` (cycled).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, remote = "Self")]
pub enum Delay {
    /// Always the same.
    Fixed(f64),
    /// Evenly between the two.
    Uniform(f64, f64),
    /// Lognormal, given by its median and 99th percentile: what latencies look like.
    Lognormal {
        /// The median.
        p50: f64,
        /// The 99th percentile.
        p99: f64,
    },
    /// Exponential with this mean.
    Exp(f64),
    /// One after the other, and again from the start.
    List(Vec<f64>),
}

impl Delay {
    /// No wait at all.
    pub const NONE: Self = Self::Fixed(0.0);

    /// A fixed wait.
    pub fn fixed(wait: Duration) -> Self {
        Self::Fixed(wait.as_secs_f64() * 1e3)
    }

    /// Draws one; `turn` counts the draws, for the list.
    pub(super) fn draw(&self, rng: &mut Rng, turn: u64) -> Duration {
        let millis = match self {
            Self::Fixed(millis) => *millis,
            Self::Uniform(from, to) => from + (to - from) * rng.f64(),
            Self::Lognormal { p50, p99 } => p50 * ((p99 / p50).ln() / Z99 * normal(rng)).exp(),
            Self::Exp(mean) => -mean * (1.0 - rng.f64()).ln(),
            Self::List(waits) => waits[(turn % waits.len() as u64) as usize],
        };
        Duration::try_from_secs_f64(millis / 1e3).unwrap_or(MAX_DELAY).min(MAX_DELAY)
    }

    /// Whether a wait can be drawn from it.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let is_wait = |wait: &f64| wait.is_finite() && 0.0 <= *wait;
        let problem = match self {
            Self::Fixed(wait) | Self::Exp(wait) if !is_wait(wait) => "a wait is at least 0",
            Self::Uniform(from, to) if !is_wait(from) || !is_wait(to) || to < from => "uniform needs 0 <= from <= to",
            Self::Lognormal { p50, p99 } if !is_wait(p99) || *p50 <= 0.0 || p99 < p50 => {
                "lognormal needs 0 < p50 <= p99"
            }
            Self::List(waits) if waits.is_empty() || !waits.iter().all(is_wait) => {
                "list needs at least one wait, all at least 0"
            }
            Self::Fixed(_) | Self::Uniform(..) | Self::Lognormal { .. } | Self::Exp(_) | Self::List(_) => {
                return Ok(());
            }
        };
        Err(problem)
    }
}

/// A draw from the standard normal distribution (Box and Muller).
fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

impl Serialize for Delay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(millis) => serializer.serialize_f64(*millis),
            Self::Uniform(..) | Self::Lognormal { .. } | Self::Exp(_) | Self::List(_) => {
                Self::serialize(self, serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrTagged)
    }
}

fn checked(delay: Delay) -> Result<Delay, &'static str> {
    delay.check().map(|()| delay)
}

struct NumberOrTagged;

impl<'de> Visitor<'de> for NumberOrTagged {
    type Value = Delay;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("milliseconds, or one of `fixed`, `uniform`, `lognormal`, `exp`, `list` with its numbers")
    }

    fn visit_u64<E: Error>(self, millis: u64) -> Result<Delay, E> {
        self.visit_f64(millis as f64)
    }

    fn visit_i64<E: Error>(self, millis: i64) -> Result<Delay, E> {
        self.visit_f64(millis as f64)
    }

    fn visit_f64<E: Error>(self, millis: f64) -> Result<Delay, E> {
        checked(Delay::Fixed(millis)).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Delay, A::Error> {
        checked(Delay::deserialize(MapAccessDeserializer::new(map))?).map_err(A::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median(delay: &Delay) -> f64 {
        let mut rng = Rng::with_seed(1);
        let mut draws: Vec<f64> = (0..4001).map(|turn| delay.draw(&mut rng, turn).as_secs_f64() * 1e3).collect();
        draws.sort_by(f64::total_cmp);
        draws[draws.len() / 2]
    }

    #[test]
    fn distributions_have_their_medians() {
        let table = [
            ("250", 250.0, 0.1),
            (r#"{"fixed":3}"#, 3.0, 0.1),
            (r#"{"uniform":[100,300]}"#, 200.0, 10.0),
            (r#"{"lognormal":{"p50":300,"p99":4000}}"#, 300.0, 30.0),
            (r#"{"exp":100}"#, 69.3, 7.0),
            (r#"{"list":[1,2,3]}"#, 2.0, 0.1),
        ];
        for (text, expected, tolerance) in table {
            let delay: Delay = serde_json::from_str(text).unwrap();
            let seen = median(&delay);
            assert!((seen - expected).abs() <= tolerance, "{text}: {seen}");
            let again: Delay = serde_json::from_str(&serde_json::to_string(&delay).unwrap()).unwrap();
            assert_eq!(again, delay);
        }
    }

    #[test]
    fn impossible_delays_are_refused() {
        for text in
            ["-1", r#"{"uniform":[3,1]}"#, r#"{"list":[]}"#, r#"{"lognormal":{"p50":0,"p99":1}}"#, r#"{"poisson":1}"#]
        {
            assert!(serde_json::from_str::<Delay>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tails_are_bounded() {
        assert_eq!(Delay::Fixed(1e18).draw(&mut Rng::with_seed(1), 0), MAX_DELAY);
    }
}
