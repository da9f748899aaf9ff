//! Numbers and times as text: formatting a float or a date would cost more than the routing.

use std::time::Duration;

/// Writes a time in milliseconds with three decimals: `1.234`. Formatting a float would cost more than the routing.
pub fn push_millis(out: &mut Vec<u8>, span: Duration) {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    push_count(out, micros / 1_000, 1);
    out.push(b'.');
    push_count(out, micros % 1_000, 3);
}

/// Writes a number in decimal with at least `width` digits.
pub fn push_count(out: &mut Vec<u8>, count: u64, width: usize) {
    let mut room = itoa::Buffer::new();
    let digits = room.format(count).as_bytes();
    (digits.len()..width).for_each(|_| out.push(b'0'));
    out.extend_from_slice(digits);
}

/// The last second as text: most lines of a second share it.
#[derive(Default)]
pub(super) struct Clockface {
    second: u64,
    text: Vec<u8>,
}

impl Clockface {
    /// Writes what [`write_time`] writes.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, at: Duration) {
        /// `Z` and the milliseconds before it.
        const FRACTION: usize = 4;
        if self.text.is_empty() || self.second != at.as_secs() {
            self.text.clear();
            write_time(&mut self.text, at);
            self.text.truncate(self.text.len() - FRACTION);
            self.second = at.as_secs();
        }
        out.extend_from_slice(&self.text);
        push_count(out, u64::from(at.subsec_millis()), 3);
        out.push(b'Z');
    }
}

/// RFC 3339 in UTC with milliseconds.
pub fn write_time(out: &mut Vec<u8>, at: Duration) {
    let (days, second) = ((at.as_secs() / 86_400) as i64, at.as_secs() % 86_400);
    // Days to civil date, by the 400-year cycle counted from 0000-03-01.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let parts = [
        (year as u64, 4, '-'),
        (month as u64, 2, '-'),
        (day as u64, 2, 'T'),
        (second / 3_600, 2, ':'),
        (second / 60 % 60, 2, ':'),
        (second % 60, 2, '.'),
        (u64::from(at.subsec_millis()), 3, 'Z'),
    ];
    for (number, width, end) in parts {
        push_count(out, number, width);
        out.push(end as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_has_at_least_its_width() {
        for (count, width, text) in [(0, 1, "0"), (0, 3, "000"), (7, 3, "007"), (70, 3, "070"), (1_234, 3, "1234")] {
            let mut out = Vec::new();
            push_count(&mut out, count, width);
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn a_clockface_says_what_the_clock_says() {
        let mut face = Clockface::default();
        for millis in [0, 1, 999, 1_000, 1_001, 1_795_478_462_345, 1_795_478_462_999, 1_795_478_463_000, 5] {
            let at = Duration::from_millis(millis);
            let (mut one, mut other) = (Vec::new(), Vec::new());
            face.write(&mut one, at);
            write_time(&mut other, at);
            assert_eq!(one, other, "{millis}");
        }
    }
}
