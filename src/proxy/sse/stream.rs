//! One upstream event stream from its first block to its end: what is held, what commits, what passes (spec/wire.md 4).

use std::borrow::Cow;

use bytes::Bytes;

use super::super::error_fields::{ErrorFields, find_error};
use super::super::finish::FinishReason;
use super::super::restamp::Restamp;
use super::super::usage::Usage;
use super::MAX_EVENT_BYTES;
use super::blocks::{Block, Splitter};
use super::dialect::{Api, wrapped};
use super::judge::{self, Finding, Meaning};
use super::template::Template;

/// How a stream is treated.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whose stream it is.
    pub api: Api,
    /// Bytes held before the first content; beyond them everything is flushed, which commits.
    pub holdback: usize,
    /// Whether the usage event was asked for by us and not by the client: then it is dropped.
    pub drop_usage_event: bool,
    /// `"background": true`: `response.created` already commits.
    pub is_background: bool,
}

/// What to do about one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Before commit: keep waiting. Does not reset the first-token timer.
    Hold,
    /// Status, headers and these blocks leave now, in one write. `is_first_token` is false where only the holdback ran full.
    Commit {
        /// All that was held, and the block that committed.
        blocks: Vec<Bytes>,
        /// Whether content made it commit.
        is_first_token: bool,
        /// Whether the committing block was also the stream's end: then it ends at once.
        is_end: bool,
    },
    /// Before commit: the attempt fails; nothing was sent.
    Fail(Failure),
    /// After commit: send it; resets the idle timer.
    Pass {
        /// The event.
        bytes: Bytes,
        /// Whether it says something, or cannot be read.
        is_content: bool,
    },
    /// After commit: a comment; send it; resets no timer.
    Comment(Bytes),
    /// After commit: nothing to send. A dropped usage event; resets the idle timer.
    Drop,
    /// After commit: the provider's own error; send it, the attempt settles as failed.
    Error(Bytes, ErrorFields),
    /// After commit: the last block; send it and end the body at once.
    Done(Bytes),
    /// After commit: an event beyond [`MAX_EVENT_BYTES`]; end with `stream_event_too_large`.
    TooLarge,
}

/// Why an attempt fails before its commit point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An in-band error, to be classified.
    InBand(ErrorFields),
    /// Not JSON, or an event beyond [`MAX_EVENT_BYTES`].
    Malformed,
    /// The end came before any content.
    Truncated,
}

/// How a stream stands when its upstream has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All was said; a cut is no failure.
    Complete,
    /// The same, but `data: [DONE]` is missing: send this, then end.
    NeedsDone(Bytes),
    /// The provider's own error has already passed: abort without another event.
    AfterError,
    /// Cut short: after commit send an error event and abort, before it the attempt fails.
    Truncated,
}

/// Where a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Holding,
    Committed,
    Ended,
}

/// An upstream event stream. Feed it with [`EventStream::push`], then take steps until there are none; at the upstream's end
/// [`EventStream::close`] it, take the last steps and ask for its [`EventStream::end`].
#[derive(Debug)]
pub struct EventStream {
    options: Options,
    restamp: Option<Box<Restamp>>,
    splitter: Splitter,
    template: Template,
    phase: Phase,
    held: Vec<Bytes>,
    held_bytes: usize,
    seen: u128,
    finished: u128,
    finish_reason: Option<FinishReason>,
    usage: Option<Usage>,
    sequence: Option<u64>,
    events: u64,
    has_id: bool,
    has_error: bool,
    has_done: bool,
    is_closed: bool,
}

impl EventStream {
    /// A stream of which nothing has arrived.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            restamp: None,
            splitter: Splitter::default(),
            template: Template::default(),
            phase: Phase::Holding,
            held: Vec::new(),
            held_bytes: 0,
            seen: 0,
            finished: 0,
            finish_reason: None,
            usage: None,
            sequence: None,
            events: 0,
            has_id: false,
            has_error: false,
            has_done: false,
            is_closed: false,
        }
    }

    /// Has its events name the model like that.
    pub fn restamp(&mut self, restamp: Restamp) {
        self.restamp = Some(Box::new(restamp));
    }

    /// The event with the client's word for the model, where that is wanted.
    fn restamped(&self, block: &Block, data: &[u8]) -> Option<Bytes> {
        self.restamp.as_ref().map(|restamp| restamp.event(&block.bytes, data))
    }

    /// Takes the next chunk of the body, decoded of its transfer coding.
    pub fn push(&mut self, chunk: Bytes) {
        self.splitter.push(chunk);
    }

    /// Why the model stopped, as far as it has said so.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    /// The last usage seen.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Data events seen so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Whether something may have gone to the client.
    pub fn is_committed(&self) -> bool {
        self.phase != Phase::Holding
    }

    /// The last `sequence_number` plus one, for our own error event.
    pub fn next_sequence(&self) -> u64 {
        self.sequence.map_or(0, |last| last.saturating_add(1))
    }

    /// Whether a keepalive comment may be written now: not after an `id:`. Blocks are whole, so it is never inside one.
    pub fn may_comment(&self) -> bool {
        !self.has_id
    }

    /// Whether `[DONE]` came without any finish reason; passes, but is counted apart.
    pub fn done_without_finish(&self) -> bool {
        self.has_done && self.finished == 0
    }

    /// Tells that the upstream has ended, cleanly or not. Then take the steps that are left, then ask [`EventStream::end`].
    pub fn close(&mut self) {
        // Blocks that are already complete come first.
        self.is_closed = true;
    }

    /// How the stream stands once it is closed and all its steps are taken.
    pub fn end(&self) -> End {
        let is_finished = self.options.api == Api::Chat && self.seen != 0 && self.seen & !self.finished == 0;
        match self.phase {
            _ if self.has_error => End::AfterError,
            Phase::Ended => End::Complete,
            Phase::Committed if is_finished => End::NeedsDone(Bytes::from_static(b"data: [DONE]\n\n")),
            Phase::Committed | Phase::Holding => End::Truncated,
        }
    }

    /// The next event if it says the same as the last and nothing is to be done about it, which goes for most.
    fn next_alike(&mut self) -> Option<Bytes> {
        if self.phase != Phase::Committed || self.restamp.is_some() {
            return None;
        }
        let bytes = self.splitter.next_plain(|data| self.template.fits(data))?;
        self.events += 1;
        Some(bytes)
    }

    fn next_block(&mut self) -> Option<Block> {
        let block = self.splitter.next();
        if block.is_none() && std::mem::take(&mut self.is_closed) {
            return self.splitter.finish();
        }
        block
    }

    fn judge(&mut self, block: &Block, data: &[u8]) -> Finding {
        self.events += 1;
        if self.template.fits(data) {
            return Finding { meaning: Meaning::Content, ..Finding::default() };
        }
        let finding = match self.options.api {
            Api::Chat => judge::chat(block.event(), data),
            Api::Responses => judge::responses(block.event(), data),
            Api::Other => judge::other(block.event(), data),
        };
        let is_all = finding.usage.is_none() && finding.finished == 0;
        if self.options.api == Api::Chat && finding.meaning == Meaning::Content && is_all {
            self.template.learn(data);
        }
        self.seen |= finding.seen;
        self.finished |= finding.finished;
        self.finish_reason = finding.finish_reason.or(self.finish_reason);
        self.usage = finding.usage.or(self.usage);
        self.sequence = finding.sequence.or(self.sequence);
        finding
    }

    fn before_commit(&mut self, block: Block) -> Step {
        let Some(data) = block.data() else { return Step::Hold };
        if data.starts_with(b"[DONE]") {
            return self.fail(Failure::Truncated);
        }
        let finding = self.judge(&block, &data);
        let is_created = self.options.is_background && is_created(&block, &data);
        let restamped = self.restamped(&block, &data);
        match finding.meaning {
            Meaning::Error { .. } => {
                let fields = find_error(&data).map(|error| error.fields).unwrap_or_default();
                self.fail(Failure::InBand(fields))
            }
            Meaning::Malformed => self.fail(Failure::Malformed),
            Meaning::Content => self.commit(block, restamped, finding, true),
            Meaning::Terminal => {
                let step = self.commit(block, restamped, finding, true);
                self.phase = Phase::Ended;
                step
            }
            Meaning::Preamble if is_created => self.commit(block, restamped, finding, true),
            Meaning::Preamble if self.held_bytes + block.bytes.len() > self.options.holdback => {
                self.commit(block, restamped, finding, false)
            }
            Meaning::Preamble => {
                self.held_bytes += block.bytes.len();
                self.has_id |= block.has_id();
                self.held.push(restamped.unwrap_or(block.bytes));
                Step::Hold
            }
        }
    }

    fn fail(&mut self, failure: Failure) -> Step {
        self.phase = Phase::Ended;
        Step::Fail(failure)
    }

    fn commit(&mut self, block: Block, restamped: Option<Bytes>, finding: Finding, is_first_token: bool) -> Step {
        self.phase = Phase::Committed;
        let mut blocks = std::mem::take(&mut self.held);
        if !(finding.is_usage_event && self.options.drop_usage_event) {
            self.has_id |= block.has_id();
            blocks.push(restamped.unwrap_or(block.bytes));
        }
        Step::Commit { blocks, is_first_token, is_end: finding.meaning == Meaning::Terminal }
    }

    /// None where the block is never forwarded.
    fn after_commit(&mut self, block: Block) -> Option<Step> {
        let Some(data) = block.data() else {
            return (block.is_comment() && !self.has_id).then_some(Step::Comment(block.bytes));
        };
        if data.starts_with(b"[DONE]") {
            self.has_done = true;
            self.phase = Phase::Ended;
            return Some(Step::Done(block.bytes));
        }
        let finding = self.judge(&block, &data);
        let restamped = self.restamped(&block, &data);
        match finding.meaning {
            Meaning::Error { is_flat } => {
                self.has_error = true;
                let fields = find_error(&data).map(|error| error.fields).unwrap_or_default();
                let bytes = if is_flat && json_object(&data) { wrapped(&data) } else { block.bytes.clone() };
                Some(Step::Error(bytes, fields))
            }
            Meaning::Terminal => {
                self.phase = Phase::Ended;
                Some(Step::Done(restamped.unwrap_or(block.bytes)))
            }
            Meaning::Content | Meaning::Preamble if finding.is_usage_event && self.options.drop_usage_event => {
                Some(Step::Drop)
            }
            // What cannot be read passes: the client has a parser too, and nothing can be taken back.
            Meaning::Content | Meaning::Preamble | Meaning::Malformed => {
                self.has_id |= block.has_id();
                let bytes = restamped.unwrap_or(block.bytes);
                Some(Step::Pass { bytes, is_content: finding.meaning != Meaning::Preamble })
            }
        }
    }

    fn too_large(&mut self) -> Step {
        let step = match self.phase {
            Phase::Holding => Step::Fail(Failure::Malformed),
            Phase::Committed | Phase::Ended => Step::TooLarge,
        };
        self.phase = Phase::Ended;
        step
    }
}

impl Iterator for EventStream {
    type Item = Step;

    /// The next step; none until more has arrived, and none for ever after the end.
    fn next(&mut self) -> Option<Step> {
        loop {
            if self.phase == Phase::Ended {
                return None;
            }
            if let Some(bytes) = self.next_alike() {
                return Some(Step::Pass { bytes, is_content: true });
            }
            let Some(block) = self.next_block() else {
                return (self.splitter.held_bytes() > MAX_EVENT_BYTES).then(|| self.too_large());
            };
            if block.bytes.len() > MAX_EVENT_BYTES {
                return Some(self.too_large());
            }
            match self.phase {
                Phase::Holding => return Some(self.before_commit(block)),
                Phase::Committed | Phase::Ended => {
                    if let Some(step) = self.after_commit(block) {
                        return Some(step);
                    }
                }
            }
        }
    }
}

fn json_object(data: &[u8]) -> bool {
    super::super::json::is_object(data)
}

fn is_created(block: &Block, data: &[u8]) -> bool {
    let kind = super::super::json::find(data, "type").and_then(super::super::json::string);
    kind.unwrap_or(Cow::Borrowed("")) == "response.created" || block.event() == b"response.created"
}

#[cfg(test)]
mod tests;
