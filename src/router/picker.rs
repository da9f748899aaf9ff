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
        // With one entrant every pick leaves its credit as it was.
        if 1 < entrants.len() && picker.is_smooth() {
            for _ in 0..virtual_start {
                let chosen = picker.richest(entrants.iter());
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
            Strategy::WeightedRoundRobin | Strategy::RoundRobin => self.richest(entrants.iter()),
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
        let shares = self.shares(entrants.iter());
        let mut given = 0;
        for entrant in entrants {
            let share = shares.of(self.weight(entrant));
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

    fn shares<'e>(&self, entrants: impl Iterator<Item = &'e Entrant>) -> Shares {
        Shares::among(entrants.map(|entrant| u128::from(self.weight(entrant))).sum())
    }

    fn richest<'e>(&self, entrants: impl Iterator<Item = &'e Entrant> + Clone) -> usize {
        let shares = self.shares(entrants.clone());
        let (mut richest, mut most) = (0, i64::MIN);
        for entrant in entrants {
            let credit = self.credits[entrant.index].saturating_add(shares.of(self.weight(entrant)));
            if most.saturating_add(TIE) < credit {
                (richest, most) = (entrant.index, credit);
            }
        }
        richest
    }

    /// Least (in flight + 1) per weight; the smooth credits decide among the tied.
    fn least_busy(&self, entrants: &[Entrant]) -> usize {
        let is_less = |a: &Entrant, b: &Entrant| {
            u128::from(a.in_flight + 1) * u128::from(b.weight) < u128::from(b.in_flight + 1) * u128::from(a.weight)
        };
        let least = entrants.iter().reduce(|least, entrant| if is_less(entrant, least) { entrant } else { least });
        self.richest(entrants.iter().filter(|entrant| least.is_some_and(|least| !is_less(least, entrant))))
    }
}

/// What a weight is worth of one pick.
struct Shares {
    /// Of weight 1, with twice the fractional bits: dividing once is enough for all members.
    unit: u128,
}

impl Shares {
    /// Among members of this weight in all, which is above 0.
    fn among(total: u128) -> Self {
        Self { unit: (1 << (2 * FRACTION_BITS)) / total.max(1) }
    }

    /// The share of a weight, at most one pick.
    fn of(&self, weight: u64) -> i64 {
        ((u128::from(weight) * self.unit) >> FRACTION_BITS) as i64
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
mod tests;
