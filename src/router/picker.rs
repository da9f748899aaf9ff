//! Who is next among equals: the strategies of one tier (spec/resilience.md 6.2).
//!
//! The smooth weighted round robin keeps a credit per member in *pick units*: at each pick every available member gains its
//! share of one pick, the richest wins and loses one. Members that are out keep their credit, so nobody is robbed by coming
//! and going, and a change of weight needs no reset.

use crate::backend::latency::UNKNOWN;
use crate::config::Strategy;

/// Fractional bits of a credit. 2^40 parts of a pick: rounding never adds up to a pick within a process's life.
const FRACTION_BITS: u32 = 40;

/// One pick.
const ONE: i64 = 1 << FRACTION_BITS;

/// Credits closer than this count as equal, so that rounding does not decide.
const TIE: i64 = 1 << (FRACTION_BITS - 20);

/// Whole of a ratio kept in 1/10 000.
const WHOLE: u64 = 10_000;

/// Upper bound of the virtual picks a new tier starts with.
pub const MAX_VIRTUAL_START: u32 = 4_096;

/// Latency assumed for a backend that has not answered yet, in seconds.
const UNKNOWN_LATENCY: f64 = UNKNOWN.as_secs_f64();

/// What a strategy may look at in one member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entrant {
    /// Position in the tier.
    pub index: usize,
    /// Effective weight in millionths, slow start included; above 0.
    pub weight: u64,
    /// Calls running there.
    pub in_flight: u32,
    /// Peak EWMA of the time to first content in seconds, if any is known; only looked at by `lowest_latency`.
    pub latency: Option<f64>,
}

/// The balancing state of one tier on one worker.
#[derive(Clone, Debug)]
pub struct Picker {
    strategy: Strategy,
    credits: Vec<i64>,
    /// Credit of the tier as a whole against the tier below, while all of its members recover.
    tier_credit: i64,
}

impl Picker {
    /// Starts a tier of `size` members after `virtual_start` picks with `weights`, so that workers and replicas do not all
    /// begin with the heaviest member. Tests pass 0.
    pub fn new(strategy: Strategy, weights: &[u64], virtual_start: u32) -> Self {
        let mut picker = Self { strategy, credits: vec![0; weights.len()], tier_credit: 0 };
        let entrants: Vec<_> = weights
            .iter()
            .enumerate()
            .filter(|(_, weight)| **weight > 0)
            .map(|(index, weight)| Entrant { index, weight: *weight, in_flight: 0, latency: None })
            .collect();
        if !entrants.is_empty() && picker.is_smooth() {
            for _ in 0..virtual_start {
                let chosen = picker.richest(&entrants);
                picker.commit(&entrants, chosen);
            }
        }
        picker
    }

    /// The strategy it follows.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Chooses one of `entrants`, which must not be empty, without booking it. `random` is only drawn from by strategies
    /// that are random.
    pub fn choose(&self, entrants: &[Entrant], random: &mut fastrand::Rng) -> usize {
        match self.strategy {
            Strategy::WeightedRoundRobin | Strategy::RoundRobin => self.richest(entrants),
            Strategy::Random => entrants[random.usize(..entrants.len())].index,
            Strategy::RandomWeighted => by_weight(entrants, random),
            Strategy::LeastBusy => self.least_busy(entrants),
            Strategy::LowestLatency => lowest_latency(entrants, random),
        }
    }

    /// Books a pick: everyone in `entrants` gains its share, `chosen` pays one.
    pub fn commit(&mut self, entrants: &[Entrant], chosen: usize) {
        if !self.is_smooth() {
            return;
        }
        let total: u128 = entrants.iter().map(|entrant| u128::from(self.weight(entrant))).sum();
        if total == 0 {
            return;
        }
        let mut given = 0;
        for entrant in entrants {
            let share = ((u128::from(self.weight(entrant)) << FRACTION_BITS) / total) as i64;
            given += share;
            self.credits[entrant.index] += share;
        }
        // The rounding rest goes to the lowest index, so that credits always add up to nothing.
        self.credits[entrants[0].index] += ONE - given;
        self.credits[chosen] -= ONE;
    }

    /// Whether a recovering tier keeps this pick, when `share` of all, in 1/10 000, is to be its own: a smooth round robin of
    /// two, the tier and what lies below (spec/resilience.md 6.1.5). Says the credit to be committed with the pick.
    pub fn keeps(&self, share: u64) -> (bool, i64) {
        let gained = self.tier_credit + ((u128::from(share.min(WHOLE)) << FRACTION_BITS) / u128::from(WHOLE)) as i64;
        // The other side's credit is the rest of one pick; of equals the tier is the first.
        let keeps = ONE - gained <= gained;
        (keeps, if keeps { gained - ONE } else { gained })
    }

    /// Books what [`Picker::keeps`] has said.
    pub fn commit_kept(&mut self, credit: i64) {
        self.tier_credit = credit;
    }

    /// Takes over the credits of members that are still there: `kept[new] = old`.
    pub fn carry_over(&mut self, earlier: &Self, kept: impl Iterator<Item = (usize, usize)>) {
        self.tier_credit = earlier.tier_credit;
        for (new, old) in kept {
            if let (Some(credit), Some(known)) = (self.credits.get_mut(new), earlier.credits.get(old)) {
                *credit = *known;
            }
        }
    }

    fn is_smooth(&self) -> bool {
        match self.strategy {
            Strategy::WeightedRoundRobin | Strategy::RoundRobin | Strategy::LeastBusy => true,
            Strategy::Random | Strategy::RandomWeighted | Strategy::LowestLatency => false,
        }
    }

    fn weight(&self, entrant: &Entrant) -> u64 {
        if self.strategy == Strategy::RoundRobin { 1 } else { entrant.weight }
    }

    fn richest(&self, entrants: &[Entrant]) -> usize {
        let total: u128 = entrants.iter().map(|entrant| u128::from(self.weight(entrant))).sum();
        let after = |entrant: &Entrant| {
            let share = ((u128::from(self.weight(entrant)) << FRACTION_BITS) / total.max(1)) as i64;
            self.credits[entrant.index].saturating_add(share)
        };
        let mut best = &entrants[0];
        let mut best_credit = after(best);
        for entrant in &entrants[1..] {
            let credit = after(entrant);
            if credit > best_credit.saturating_add(TIE) {
                (best, best_credit) = (entrant, credit);
            }
        }
        best.index
    }

    /// Least (in flight + 1) per weight; the smooth credits decide among the tied.
    fn least_busy(&self, entrants: &[Entrant]) -> usize {
        let is_less = |a: &Entrant, b: &Entrant| {
            u128::from(a.in_flight + 1) * u128::from(b.weight) < u128::from(b.in_flight + 1) * u128::from(a.weight)
        };
        let mut least: Vec<Entrant> = Vec::with_capacity(entrants.len());
        for entrant in entrants {
            match least.first() {
                Some(known) if is_less(known, entrant) => {}
                Some(known) if is_less(entrant, known) => {
                    least.clear();
                    least.push(*entrant);
                }
                Some(_) | None => least.push(*entrant),
            }
        }
        self.richest(&least)
    }
}

fn by_weight(entrants: &[Entrant], random: &mut fastrand::Rng) -> usize {
    let total: u64 = entrants.iter().map(|entrant| entrant.weight).sum();
    let mut draw = random.u64(..total.max(1));
    for entrant in entrants {
        if draw < entrant.weight {
            return entrant.index;
        }
        draw -= entrant.weight;
    }
    entrants[0].index
}

/// Two different random candidates; the lower of latency × (in flight + 1) / weight. One without a known latency counts as
/// fast, but only while nothing runs there: then it is no candidate, unless all are like that.
fn lowest_latency(entrants: &[Entrant], random: &mut fastrand::Rng) -> usize {
    let is_awaited = |entrant: &&Entrant| entrant.latency.is_none() && 0 < entrant.in_flight;
    match entrants.iter().filter(|entrant| !is_awaited(entrant)).count() {
        0 => lower_of_two(entrants.iter(), entrants.len(), random),
        count => lower_of_two(entrants.iter().filter(|entrant| !is_awaited(entrant)), count, random),
    }
}

/// The better of two out of `count`; of equal ones the earlier.
fn lower_of_two<'a>(
    entrants: impl Iterator<Item = &'a Entrant> + Clone,
    count: usize,
    random: &mut fastrand::Rng,
) -> usize {
    let cost = |entrant: &Entrant| {
        entrant.latency.unwrap_or(UNKNOWN_LATENCY) * (f64::from(entrant.in_flight) + 1.0) / entrant.weight as f64
    };
    let first = random.usize(..count);
    let second = if count == 1 { first } else { (first + 1 + random.usize(..count - 1)) % count };
    let two = entrants.enumerate().filter(|(place, _)| *place == first || *place == second);
    let lower = two.map(|(_, entrant)| entrant).min_by(|a, b| cost(a).total_cmp(&cost(b)));
    lower.map_or(0, |entrant| entrant.index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};

    use super::*;

    fn entrants(weights: &[u64], available: &[bool]) -> Vec<Entrant> {
        weights
            .iter()
            .enumerate()
            .filter(|(index, _)| available[*index])
            .map(|(index, weight)| Entrant { index, weight: *weight, in_flight: 0, latency: None })
            .collect()
    }

    fn pick(picker: &mut Picker, entrants: &[Entrant]) -> usize {
        let chosen = picker.choose(entrants, &mut fastrand::Rng::with_seed(1));
        picker.commit(entrants, chosen);
        chosen
    }

    #[test]
    fn smooth_round_robin_spreads_the_picks_evenly() {
        let weights = [700_000, 300_000];
        let mut picker = Picker::new(Strategy::WeightedRoundRobin, &weights, 0);
        let all = entrants(&weights, &[true, true]);
        let order: Vec<usize> = (0..10).map(|_| pick(&mut picker, &all)).collect();
        assert_eq!(order.iter().filter(|index| **index == 0).count(), 7);
        assert!(order.windows(3).all(|three| three.contains(&0)), "never three of the lighter in a row: {order:?}");
    }

    #[test]
    fn round_robin_ignores_weights() {
        let weights = [900_000, 100_000];
        let mut picker = Picker::new(Strategy::RoundRobin, &weights, 0);
        let all = entrants(&weights, &[true, true]);
        let order: Vec<usize> = (0..6).map(|_| pick(&mut picker, &all)).collect();
        assert_eq!(order, [0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn random_weighted_keeps_its_share_within_three_sigma() {
        let weights = [700_000, 300_000];
        let picker = Picker::new(Strategy::RandomWeighted, &weights, 0);
        let all = entrants(&weights, &[true, true]);
        let mut random = fastrand::Rng::with_seed(7);
        let heavy = (0..10_000).filter(|_| picker.choose(&all, &mut random) == 0).count() as f64;
        let sigma = (10_000.0 * 0.7_f64 * 0.3).sqrt();
        assert!((heavy - 7_000.0).abs() < 3.0 * sigma, "{heavy}");
    }

    #[test]
    fn least_busy_weighs_calls_in_flight() {
        let picker = Picker::new(Strategy::LeastBusy, &[1, 1, 2], 0);
        let mut three = entrants(&[1, 1, 2], &[true, true, true]);
        three[0].in_flight = 1;
        three[1].in_flight = 3;
        three[2].in_flight = 2;
        assert_eq!(picker.choose(&three, &mut fastrand::Rng::with_seed(1)), 2);
    }

    #[test]
    fn lowest_latency_takes_the_faster_of_two_and_tries_an_unknown_once() {
        let picker = Picker::new(Strategy::LowestLatency, &[1, 1], 0);
        let mut two = entrants(&[1, 1], &[true, true]);
        two[0].latency = Some(2.0);
        two[1].latency = Some(0.5);
        let mut random = fastrand::Rng::with_seed(3);
        assert!((0..20).all(|_| picker.choose(&two, &mut random) == 1));
        two[1].latency = None;
        assert_eq!(picker.choose(&two, &mut random), 1);
        two[1].in_flight = 1;
        assert_eq!(picker.choose(&two, &mut random), 0);
    }

    #[test]
    fn a_recovering_tier_keeps_its_share_of_the_picks_within_one() {
        for share in [0, 1_000, 3_333, 5_000, 9_999, 10_000] {
            let mut picker = Picker::new(Strategy::WeightedRoundRobin, &[1], 0);
            let mut kept = 0.0;
            for pick in 1..=1_000 {
                let (keeps, credit) = picker.keeps(share);
                picker.commit_kept(credit);
                kept += f64::from(u8::from(keeps));
                let due = f64::from(pick) * share as f64 / 1e4;
                assert!((kept - due).abs() <= 1.0, "{share}: {kept} of {pick}");
            }
        }
    }

    #[test]
    fn lowest_latency_sends_the_first_calls_to_different_backends() {
        let picker = Picker::new(Strategy::LowestLatency, &[1, 1, 1, 1], 0);
        let mut four = entrants(&[1, 1, 1, 1], &[true; 4]);
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..8 {
            let chosen = picker.choose(&four, &mut random);
            four[chosen].in_flight += 1;
        }
        let busy: Vec<u32> = four.iter().map(|entrant| entrant.in_flight).collect();
        assert!(busy.iter().all(|calls| 1 <= *calls), "one each, before any has two: {busy:?}");
        four.iter_mut().for_each(|entrant| entrant.in_flight = 1);
        four[2].latency = Some(60.0);
        assert!((0..20).all(|_| picker.choose(&four, &mut random) == 2), "nobody waits for two unknown ones");
    }

    #[test]
    fn lowest_latency_weighs_calls_in_flight_and_weights() {
        let picker = Picker::new(Strategy::LowestLatency, &[1, 1], 0);
        let mut random = fastrand::Rng::with_seed(9);
        // Seconds, calls, weight of both; who is chosen.
        let table = [
            ((1.0, 0, 1), (1.0, 0, 1), 0),
            ((1.0, 1, 1), (1.5, 0, 1), 1),
            ((1.0, 2, 4), (1.0, 0, 1), 0),
            ((0.0, 0, 1), (0.0, 9, 1), 0),
            ((0.4, u32::MAX, 1), (0.5, 0, 1), 1),
        ];
        for (low, high, expected) in table {
            let entrant =
                |index, (seconds, in_flight, weight)| Entrant { index, weight, in_flight, latency: Some(seconds) };
            let two = [entrant(0, low), entrant(1, high)];
            assert!((0..9).all(|_| picker.choose(&two, &mut random) == expected), "{two:?}");
        }
    }

    /// Runs a history of availability and says by how many picks any member strayed from its expected share.
    fn worst_error(weights: &[u64], history: &[Vec<bool>], virtual_start: u32) -> f64 {
        let mut picker = Picker::new(Strategy::WeightedRoundRobin, weights, virtual_start);
        let mut expected = vec![0.0; weights.len()];
        let mut picks = vec![0.0; weights.len()];
        let mut worst: f64 = 0.0;
        for available in history {
            let present = entrants(weights, available);
            if present.is_empty() {
                continue;
            }
            let total: u64 = present.iter().map(|entrant| entrant.weight).sum();
            for entrant in &present {
                expected[entrant.index] += entrant.weight as f64 / total as f64;
            }
            picks[pick(&mut picker, &present)] += 1.0;
            for (picked, due) in picks.iter().zip(&expected) {
                worst = worst.max((picked - due).abs());
            }
        }
        worst
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// spec/resilience.md 6.2: within two picks of the expected share, whatever comes and goes.
        #[test]
        fn shares_are_exact_within_two_picks(
            weights in prop::collection::vec(1_u64..1_000_000, 2..8),
            seed in any::<u64>(),
            churn in 0_u32..5,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let history: Vec<Vec<bool>> =
                (0..600).map(|_| weights.iter().map(|_| random.u32(..10) >= churn).collect()).collect();
            prop_assert!(worst_error(&weights, &history, 0) <= 2.0);
        }

        #[test]
        fn a_virtual_start_keeps_the_bound(start in 0..MAX_VIRTUAL_START) {
            let history = vec![vec![true, true, true]; 300];
            prop_assert!(worst_error(&[700_000, 200_000, 100_000], &history, start) <= 2.0);
        }
    }
}
