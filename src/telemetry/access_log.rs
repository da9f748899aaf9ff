//! One line per request, encoded by hand into the worker's own buffer and written by one thread.
//!
//! tracing's JSON formatter would cost more than the whole routing decision. The buffer is handed on whole when it is full or
//! old; a full channel or a write error loses its lines, which are counted; nothing blocks.

use std::cell::RefCell;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;

use crate::config::LogFormat;

/// A buffer is handed on when it has this much: each costs a wake-up of the writer and a call of the system.
const BUFFER_BYTES: usize = 64 << 10;

/// Room for one more line beyond that.
const LINE_ROOM: usize = 2 << 10;

/// Or when its first line is this old.
const BUFFER_AGE: Duration = Duration::from_millis(100);

/// Buffers under way to the writer: 4 MiB in all.
const BUFFERS: usize = 64;

/// Buffers that are kept for the next lines: one that is written and one that is filled, for two workers. Giving them back to
/// the allocator at one thread and asking for them at another makes it grow and shrink its heap all the time.
const MAX_SPARE: usize = 4;

/// Longest text of a field, in characters. What a client chose is cut before, at 128.
const SHOWN: usize = 512;

/// Lines and how many they are.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    count: u64,
}

enum Parcel {
    Lines(Lines),
    /// Everything before this is written: say so.
    Flush(SyncSender<()>),
}

/// The writer thread's end of the log, shared by all workers.
#[derive(Clone)]
pub struct AccessLog {
    parcels: SyncSender<Parcel>,
    spare: Spare,
    dropped: IntCounter,
    json: bool,
}

/// Empty buffers. The lock is taken once for a full one.
#[derive(Clone, Default)]
struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES + LINE_ROOM))
    }

    fn give_back(&self, mut text: Vec<u8>) {
        text.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_SPARE && BUFFER_BYTES <= text.capacity() {
            kept.push(text);
        }
    }
}

impl AccessLog {
    /// Starts the writer thread on standard output. `dropped` counts lost lines.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn start(format: LogFormat, dropped: IntCounter) -> std::io::Result<Self> {
        let (parcels, receiver) = sync_channel(BUFFERS);
        let (lost, spare) = (dropped.clone(), Spare::default());
        let emptied = spare.clone();
        let write = move || write_out(&receiver, &emptied, &lost);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(write)?;
        let json = match format {
            LogFormat::Json => true,
            LogFormat::Text => false,
            LogFormat::Auto => !std::io::IsTerminal::is_terminal(&std::io::stdout()),
        };
        Ok(Self { parcels, spare, dropped, json })
    }

    /// A worker's own buffer.
    pub fn worker(&self) -> WorkerLog {
        WorkerLog(Rc::new(Buffer {
            log: self.clone(),
            text: RefCell::default(),
            clockface: RefCell::default(),
            wake: Arc::default(),
        }))
    }

    /// Waits until everything handed on so far is written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let (done, written) = sync_channel(1);
        if self.parcels.try_send(Parcel::Flush(done)).is_ok() {
            let _ = written.recv_timeout(limit);
        }
    }

    fn hand_on(&self, lines: Lines) {
        let count = lines.count;
        if self.parcels.try_send(Parcel::Lines(lines)).is_err() {
            self.dropped.inc_by(count);
        }
    }
}

fn write_out(parcels: &Receiver<Parcel>, spare: &Spare, dropped: &IntCounter) {
    let mut out = std::io::stdout();
    for parcel in parcels {
        match parcel {
            Parcel::Lines(lines) => {
                if out.write_all(&lines.text).and_then(|()| out.flush()).is_err() {
                    dropped.inc_by(lines.count);
                }
                spare.give_back(lines.text);
            }
            // Nobody waits any more: fine.
            Parcel::Flush(done) => drop(done.try_send(())),
        }
    }
}

struct Buffer {
    log: AccessLog,
    text: RefCell<Lines>,
    clockface: RefCell<Clockface>,
    wake: Arc<tokio::sync::Notify>,
}

impl Drop for Buffer {
    /// A worker that ends hands on its last lines.
    fn drop(&mut self) {
        let lines = std::mem::take(self.text.get_mut());
        if 0 < lines.count {
            self.log.hand_on(lines);
        }
    }
}

/// One worker's buffer. Not `Send`.
#[derive(Clone)]
pub struct WorkerLog(Rc<Buffer>);

impl WorkerLog {
    /// Adds a line.
    pub fn write(&self, line: &Line<'_>) {
        let mut lines = self.0.text.borrow_mut();
        let was_empty = lines.count == 0;
        lines.count += 1;
        if self.0.log.json {
            line.write_json_by(&mut self.0.clockface.borrow_mut(), &mut lines.text);
        } else {
            line.write_text(&mut lines.text);
        }
        if BUFFER_BYTES <= lines.text.len() {
            let fresh = Lines { text: self.0.log.spare.take(), count: 0 };
            self.0.log.hand_on(std::mem::replace(&mut *lines, fresh));
        } else if was_empty {
            self.0.wake.notify_one();
        }
    }

    /// Hands on what there is.
    pub fn flush(&self) {
        let lines = std::mem::take(&mut *self.0.text.borrow_mut());
        if 0 < lines.count {
            self.0.log.hand_on(lines);
        }
    }

    /// Hands lines on when they are old. Runs as long as its worker.
    pub async fn run(self) {
        loop {
            self.0.wake.notified().await;
            tokio::time::sleep(BUFFER_AGE).await;
            self.flush();
        }
    }
}

/// The name of a field, and how it begins in JSON: written out beforehand, since every line has twenty of them.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The name alone.
    pub name: &'static str,
    /// `,"name":`
    pub json: &'static str,
}

/// Makes a [`Key`] of a literal that needs no escaping.
macro_rules! key {
    ($name:literal) => {
        $crate::telemetry::access_log::Key { name: $name, json: concat!(",\"", $name, "\":") }
    };
}
pub(crate) use key;

/// What a line says, in this order (spec/observability.md 2.1). Empty values are left out.
#[derive(Clone, Debug, Default)]
pub struct Line<'a> {
    /// Wall-clock time since the epoch.
    pub at: Duration,
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// Words: key and value; a value that is empty is left out.
    pub words: &'a [(Key, Word<'a>)],
    /// Numbers: key and value.
    pub numbers: &'a [(Key, Option<Number>)],
}

/// A word of a line.
#[derive(Clone, Copy, Debug)]
pub enum Word<'a> {
    /// One of ours, which needs no escaping.
    Own(&'static str),
    /// A name or what a client wrote.
    Free(&'a str),
}

impl<'a> Word<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Own(text) => text,
            Self::Free(text) => text,
        }
    }
}

/// A number of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A count.
    Count(u64),
    /// A time, written in milliseconds with three decimals.
    Millis(Duration),
    /// A share of 1, or an amount of money.
    Ratio(f64),
}

/// Whether the line of a plain success is written where only a share of them is: the same answer for the same request,
/// whoever is asked.
pub fn is_sampled(request_id: &str, share: f64) -> bool {
    // FNV-1a, whose low bits are mixed best; a multiplication brings them up, and the upper half is the share.
    let hash = request_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    1.0 <= share || ((mixed >> 32) as f64) < share * f64::from(u32::MAX)
}

impl Line<'_> {
    /// Appends the line as one JSON object and a line feed.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.write_json_by(&mut Clockface::default(), out);
    }

    fn write_json_by(&self, clockface: &mut Clockface, out: &mut Vec<u8>) {
        out.reserve(LINE_ROOM);
        out.extend_from_slice(b"{\"ts\":\"");
        clockface.write(out, self.at);
        push_all(out, ["\",\"level\":\"", self.level, "\",\"msg\":\"request\""]);
        for (key, word) in self.words.iter().filter(|(_, word)| !word.text().is_empty()) {
            out.extend_from_slice(key.json.as_bytes());
            out.push(b'"');
            match word {
                Word::Own(text) => out.extend_from_slice(text.as_bytes()),
                Word::Free(text) => escape(out, text),
            }
            out.push(b'"');
        }
        for (key, value) in self.numbers {
            if let Some(value) = value {
                out.extend_from_slice(key.json.as_bytes());
                write_number(out, *value);
            }
        }
        out.extend_from_slice(b"}\n");
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        write_time(out, self.at);
        let _ = write!(out, " {} request", self.level.to_ascii_uppercase());
        for (key, value) in self.words.iter().map(|(key, word)| (key, word.text())).filter(|(_, text)| !text.is_empty())
        {
            let plain = value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
            let _ = write!(out, " {}=", key.name);
            if plain {
                out.extend_from_slice(value.as_bytes());
            } else {
                out.push(b'"');
                escape(out, value);
                out.push(b'"');
            }
        }
        for (key, value) in self.numbers {
            if let Some(value) = value {
                let _ = write!(out, " {}=", key.name);
                write_number(out, *value);
            }
        }
        out.push(b'\n');
    }
}

fn push_all(out: &mut Vec<u8>, pieces: [&str; 3]) {
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

fn write_number(out: &mut Vec<u8>, number: Number) {
    match number {
        Number::Count(count) => push_count(out, count, 1),
        Number::Millis(span) => push_millis(out, span),
        Number::Ratio(share) => {
            let _ = write!(out, "{share}");
        }
    }
}

/// Writes a time in milliseconds with three decimals: `1.234`. Formatting a float would cost more than the routing.
pub fn push_millis(out: &mut Vec<u8>, span: Duration) {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    push_count(out, micros / 1_000, 1);
    out.push(b'.');
    push_count(out, micros % 1_000, 3);
}

/// Most digits of a u64.
const MAX_DIGITS: usize = 20;

/// Writes a number in decimal with at least `width` digits.
pub fn push_count(out: &mut Vec<u8>, mut count: u64, width: usize) {
    let mut digits = [b'0'; MAX_DIGITS];
    let mut at = MAX_DIGITS;
    while 0 < count || MAX_DIGITS - at < width {
        at -= 1;
        digits[at] = b'0' + (count % 10) as u8;
        count /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Bytes looked at in one step.
const WORD: usize = 8;

/// Whether a text needs no escaping: printable ASCII without quotes and backslashes.
fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<WORD>();
    let each = |byte: u8| u64::from_ne_bytes([byte; WORD]);
    // The top bit of each byte that is smaller than `least`, exact while no byte has its own top bit set.
    let below = |word: u64, least: u64| word.wrapping_sub(least) & !word;
    let odd = words.iter().fold(0, |odd, bytes| {
        let word = u64::from_ne_bytes(*bytes);
        let is_delete_or_more = word | word.wrapping_add(each(1));
        let is_quote = below(word ^ each(b'"'), each(1)) | below(word ^ each(b'\\'), each(1));
        odd | below(word, each(b' ')) | is_delete_or_more | is_quote
    });
    let is_plain = |byte: &u8| (b' '..0x7f).contains(byte) && *byte != b'"' && *byte != b'\\';
    odd & each(0x80) == 0 && rest.iter().all(is_plain)
}

fn escape(out: &mut Vec<u8>, text: &str) {
    if text.len() <= SHOWN && is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for character in text.chars().take(SHOWN) {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            character if character.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            character => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// The last second as text: most lines of a second share it.
#[derive(Default)]
struct Clockface {
    second: u64,
    text: Vec<u8>,
}

impl Clockface {
    /// Writes what [`write_time`] writes.
    fn write(&mut self, out: &mut Vec<u8>, at: Duration) {
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

    fn line<'a>(words: &'a [(Key, Word<'a>)], numbers: &'a [(Key, Option<Number>)]) -> Line<'a> {
        Line { at: Duration::from_millis(1_795_478_462_345), level: "info", words, numbers }
    }

    #[test]
    fn a_share_of_the_requests_is_sampled_and_always_the_same() {
        let ids: Vec<String> = (0..10_000).map(|number| format!("req-{number}")).collect();
        for (share, least, most) in [(0.0, 0, 0), (0.1, 850, 1_150), (0.5, 4_800, 5_200), (1.0, 10_000, 10_000)] {
            let sampled = ids.iter().filter(|id| is_sampled(id, share)).count();
            assert!((least..=most).contains(&sampled), "{sampled} of 10000 at {share}");
        }
        assert!(ids.iter().filter(|id| is_sampled(id, 0.1)).all(|id| is_sampled(id, 0.2)), "more is a superset");
    }

    #[test]
    fn lines_survive_odd_values() {
        let words = [
            (key!("route"), Word::Own("gpt-4-router")),
            (key!("model"), Word::Free("a\"b\\c\nd")),
            (key!("backend"), Word::Free("")),
        ];
        let numbers = [
            (key!("status"), Some(Number::Count(200))),
            (key!("duration_ms"), Some(Number::Millis(Duration::from_nanos(1_234_567)))),
            (key!("ttft_ms"), None),
        ];
        let mut json = Vec::new();
        line(&words, &numbers).write_json(&mut json);
        let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(read["model"], "a\"b\\c\nd");
        assert_eq!(read["status"], 200);
        assert_eq!(read["ts"], "2026-11-24T00:01:02.345Z");
        assert!(read.get("backend").is_none() && read.get("ttft_ms").is_none());
        let mut text = Vec::new();
        line(&words, &numbers).write_text(&mut text);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "2026-11-24T00:01:02.345Z INFO request route=gpt-4-router model=\"a\\\"b\\\\c\\u000ad\" status=200 duration_ms=1.234\n"
        );
    }

    #[test]
    fn plain_is_what_needs_no_escaping() {
        for byte in 0..=255 {
            for before in 0..20 {
                let text: Vec<u8> = std::iter::repeat_n(b'~', before).chain([byte]).chain(*b"  az09!!").collect();
                let expected = (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
                assert_eq!(is_plain(&text), expected, "{byte} after {before}");
            }
        }
        assert!(is_plain(b""));
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

    #[test]
    fn a_full_channel_drops_and_counts() {
        let dropped = IntCounter::new("d", "d").unwrap();
        let (parcels, _receiver) = sync_channel(1);
        let log = AccessLog { parcels, spare: Spare::default(), dropped: dropped.clone(), json: true };
        log.hand_on(Lines { text: b"a\nb\n".to_vec(), count: 2 });
        log.hand_on(Lines { text: b"c\nd\ne\n".to_vec(), count: 3 });
        assert_eq!(dropped.get(), 3);
    }
}
