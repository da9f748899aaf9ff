//! Order, shares and bounds of each strategy.

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

/// A weight, calls in flight and a latency, of which 0 stands for an unknown one.
type Fact = (u64, u32, f64);

/// Members of these facts.
fn members(facts: &[Fact]) -> Vec<Entrant> {
    let member = |(index, (weight, in_flight, latency)): (usize, &Fact)| Entrant {
        index,
        weight: *weight,
        in_flight: *in_flight,
        latency: Some(*latency).filter(|latency| *latency > 0.0),
    };
    facts.iter().enumerate().map(member).collect()
}

#[test]
fn least_busy_compares_exactly_and_takes_turns_among_the_tied() {
    let table: [(&[(u64, u32)], usize); 7] = [
        (&[(1, 1), (1, 0)], 1),
        (&[(1, 0), (2, 1)], 1),
        (&[(1, 0), (3, 1)], 1),
        (&[(2, 2), (3, 3)], 1),
        (&[(5, 9), (2, 4)], 0),
        (&[(3, 4), (2, 4), (2, 2)], 2),
        (&[(7, 0), (1, 0), (1, 0)], 0),
    ];
    for (facts, expected) in table {
        let facts: Vec<_> = facts.iter().map(|(weight, in_flight)| (*weight, *in_flight, 0.0)).collect();
        let weights: Vec<u64> = facts.iter().map(|(weight, ..)| *weight).collect();
        let picker = Picker::new(Strategy::LeastBusy, &weights, 0);
        assert_eq!(picker.choose(&members(&facts), &mut fastrand::Rng::with_seed(1)), expected, "{facts:?}");
    }
    // The second is busier and out of it; the others take turns.
    let mut picker = Picker::new(Strategy::LeastBusy, &[1, 1, 1], 0);
    let three = members(&[(1, 0, 0.0), (1, 1, 0.0), (1, 0, 0.0)]);
    assert_eq!([0; 4].map(|_| pick(&mut picker, &three)), [0, 2, 0, 2]);
}

#[test]
fn random_weighted_gives_each_weight_its_whole_width() {
    let weights = [1, 1, 2];
    let picker = Picker::new(Strategy::RandomWeighted, &weights, 0);
    let all = entrants(&weights, &[true; 3]);
    let mut random = fastrand::Rng::with_seed(7);
    let mut counts = [0_i32; 3];
    (0..40_000).for_each(|_| counts[picker.choose(&all, &mut random)] += 1);
    // Three sigma of 40 000 draws are less than 300.
    assert!(counts.iter().zip([10_000, 10_000, 20_000]).all(|(count, due)| (count - due).abs() < 300), "{counts:?}");
}

#[test]
fn lowest_latency_compares_two_of_them_by_cost() {
    let mut random = fastrand::Rng::with_seed(3);
    let table: [(&[Fact], usize); 7] = [
        (&[(1, 0, 2.0), (1, 0, 1.0)], 1),
        // As good: the first of the list.
        (&[(1, 0, 1.0), (1, 0, 1.0)], 0),
        (&[(1, 2, 1.0), (1, 0, 2.0)], 1),
        (&[(1, 1, 1.0), (1, 0, 2.5)], 0),
        (&[(4, 0, 3.0), (1, 0, 1.0)], 0),
        (&[(2, 3, 1.0), (1, 0, 1.9)], 1),
        // Unknown: 30 ms.
        (&[(1, 0, 0.0), (1, 0, 0.029)], 1),
    ];
    for (facts, expected) in table {
        let weights: Vec<u64> = facts.iter().map(|(weight, ..)| *weight).collect();
        let picker = Picker::new(Strategy::LowestLatency, &weights, 0);
        let chosen: Vec<usize> = (0..20).map(|_| picker.choose(&members(facts), &mut random)).collect();
        assert_eq!(chosen, [expected; 20], "{facts:?}");
    }
    // The best of three is among two different ones two times in three.
    let three = members(&[(1, 0, 3.0), (1, 0, 1.0), (1, 0, 2.0)]);
    let picker = Picker::new(Strategy::LowestLatency, &[1; 3], 0);
    let mut counts = [0_i32; 3];
    (0..9_000).for_each(|_| counts[picker.choose(&three, &mut random)] += 1);
    assert!((counts[1] - 6_000).abs() < 200 && (counts[2] - 3_000).abs() < 200 && counts[0] == 0, "{counts:?}");
    let alone = members(&[(1, 5, 0.0)]);
    assert_eq!(picker.choose(&alone, &mut random), 0);
}

#[test]
fn members_that_stay_keep_their_credits() {
    let mut earlier = Picker::new(Strategy::WeightedRoundRobin, &[1, 1, 1], 0);
    pick(&mut earlier, &entrants(&[1; 3], &[true; 3]));
    let mut picker = Picker::new(Strategy::WeightedRoundRobin, &[1, 1], 0);
    // The first is gone; of the others the last is first, and one is told that never was.
    picker.carry_over(&earlier, [(0, 2), (1, 1), (7, 0), (0, 9)].into_iter());
    assert_eq!(picker.credits, [earlier.credits[2], earlier.credits[1]]);
    assert!(0 < picker.credits[0]);
}

#[test]
fn credits_add_up_to_nothing_and_ties_go_to_the_first() {
    let weights = [3, 5, 7, 11];
    let mut picker = Picker::new(Strategy::WeightedRoundRobin, &weights, 0);
    for turn in 0..1_000 {
        let available: Vec<bool> = (0..4).map(|index| turn % 5 != index).collect();
        pick(&mut picker, &entrants(&weights, &available));
        assert_eq!(picker.credits.iter().sum::<i64>(), 0);
    }
    let near = |credits: [i64; 2]| {
        let picker = Picker { strategy: Strategy::RoundRobin, credits: credits.to_vec(), tier_credit: 0 };
        picker.choose(&entrants(&[1, 1], &[true, true]), &mut fastrand::Rng::with_seed(1))
    };
    // A millionth of a pick, about: 2^-20.
    let tie = ONE >> 20;
    assert_eq!([near([0, tie]), near([0, tie + 1]), near([tie + 1, 0])], [0, 1, 0]);
    // Strategies without credits have none.
    for strategy in [Strategy::Random, Strategy::RandomWeighted, Strategy::LowestLatency] {
        let mut picker = Picker::new(strategy, &weights, 3);
        pick(&mut picker, &entrants(&weights, &[true; 4]));
        assert_eq!((picker.strategy(), picker.credits), (strategy, vec![0; 4]));
    }
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

/// A history of `length` picks among members of which about `churn` in ten are away.
fn history(size: usize, seed: u64, churn: u32, length: usize) -> Vec<Vec<bool>> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| (0..size).map(|_| random.u32(..10) >= churn).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// spec/resilience.md 6.2: within two picks of the expected share, whatever comes and goes.
    #[test]
    fn shares_are_exact_within_two_picks(
        weights in prop::collection::vec(1_u64..1_000_000, 2..=20),
        seed in any::<u64>(),
        churn in 0_u32..5,
    ) {
        prop_assert!(worst_error(&weights, &history(weights.len(), seed, churn, 600), 0) <= 2.0);
    }

    #[test]
    fn a_virtual_start_keeps_the_bound(start in 0..MAX_VIRTUAL_START) {
        let history = vec![vec![true, true, true]; 300];
        prop_assert!(worst_error(&[700_000, 200_000, 100_000], &history, start) <= 2.0);
    }
}

#[test]
#[ignore = "the long form: a hundred thousand histories; build it with optimisation"]
fn shares_are_exact_within_two_picks_in_a_hundred_thousand_histories() {
    for seed in 0..100_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let weights: Vec<u64> = (0..random.usize(2..=20)).map(|_| random.u64(1..1_000_000)).collect();
        let worst = worst_error(&weights, &history(weights.len(), seed, random.u32(..5), 600), 0);
        assert!(worst <= 2.0, "seed {seed}: {worst}");
    }
}

/// Credits in twelfths of a pick, which all shares of up to four equal members come to.
fn twelfths(picker: &Picker) -> Vec<i64> {
    picker.credits.iter().map(|credit| (credit * 12 + ONE / 2).div_euclid(ONE)).collect()
}

/// spec/resilience.md 6.2: every history whatever of up to four equal members, by every state that one can lead to.
#[test]
fn no_history_of_four_equal_members_strays_by_two_picks() {
    for size in 2..=4_usize {
        let weights = vec![1; size];
        let start = Picker::new(Strategy::WeightedRoundRobin, &weights, 0);
        let mut known = std::collections::HashSet::from([twelfths(&start)]);
        let mut waiting = vec![start];
        while let Some(state) = waiting.pop() {
            for present in 1..1_u32 << size {
                let available: Vec<bool> = (0..size).map(|index| present >> index & 1 == 1).collect();
                let mut next = state.clone();
                pick(&mut next, &entrants(&weights, &available));
                // A credit is what the shares exceed the picks by.
                assert!(next.credits.iter().all(|credit| credit.abs() <= 2 * ONE), "{:?}", next.credits);
                assert!(next.credits.iter().sum::<i64>() == 0, "nothing is lost: {:?}", next.credits);
                if known.insert(twelfths(&next)) {
                    waiting.push(next);
                }
            }
        }
        assert!(known.len() < 10_000, "{}: the states are few", known.len());
    }
}
