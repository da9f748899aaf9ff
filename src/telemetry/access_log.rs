//! One line per request, encoded by hand into the worker's own buffer and written by one thread.
//!
//! tracing's JSON formatter would cost more than the whole routing decision. The buffer is handed on whole when it is full or
//! old; a full channel or a write error loses its lines, which are counted; nothing blocks.

pub mod line;

use std::cell::RefCell;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;

use self::line::{LINE_ROOM, Line};
use super::figures::Clockface;
use crate::config::LogFormat;

/// A buffer is handed on when it has this much: each costs a wake-up of the writer and a call of the system.
const BUFFER_BYTES: usize = 64 << 10;

/// Or when its first line is this old.
const BUFFER_AGE: Duration = Duration::from_millis(100);

/// Buffers under way to the writer: 4 MiB in all.
const BUFFERS: usize = 64;

/// Buffers that are kept for the next lines: one that is written and one that is filled, for two workers. Giving them back to
/// the allocator at one thread and asking for them at another makes it grow and shrink its heap all the time.
const MAX_SPARE: usize = 4;

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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_full_channel_drops_and_counts() {
        let dropped = IntCounter::new("d", "d").unwrap();
        let (parcels, _receiver) = sync_channel(1);
        let log = AccessLog { parcels, spare: Spare::default(), dropped: dropped.clone(), json: true };
        log.hand_on(Lines { text: b"a\nb\n".to_vec(), count: 2 });
        log.hand_on(Lines { text: b"c\nd\ne\n".to_vec(), count: 3 });
        assert_eq!(dropped.get(), 3);
    }
}
