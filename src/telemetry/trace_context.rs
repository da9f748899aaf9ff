//! W3C Trace Context, level 1: the `traceparent` header (<https://www.w3.org/TR/trace-context/>).

/// What a request says of the trace that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, 32 lower-case hexadecimal digits that are not all zero.
    trace_id: [u8; 32],
    /// The caller's span, 16 of them.
    parent_id: [u8; 16],
    /// Whether the caller records it.
    pub is_sampled: bool,
}

impl TraceContext {
    /// Reads the header's value; none if it is not valid, which is as good as none.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (version, rest) = value.split_at_checked(2)?;
        let (trace, rest) = rest.strip_prefix(b"-")?.split_at_checked(32)?;
        let (parent, rest) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
        let (flags, rest) = rest.strip_prefix(b"-")?.split_at_checked(2)?;
        // A later version may say more behind another dash.
        let ends_well = if version == b"00" { rest.is_empty() } else { rest.is_empty() || rest[0] == b'-' };
        let is_hex = |text: &[u8]| text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_valid = ends_well && version != b"ff" && [version, trace, parent, flags].into_iter().all(is_hex);
        let is_something = |text: &[u8]| text.iter().any(|byte| *byte != b'0');
        let (trace_id, parent_id) = (trace.try_into().ok()?, parent.try_into().ok()?);
        let is_odd = matches!(flags[1], b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f');
        (is_valid && is_something(trace) && is_something(parent)).then_some(Self {
            trace_id,
            parent_id,
            is_sampled: is_odd,
        })
    }

    /// A new trace without a parent.
    pub fn begin(random: &mut fastrand::Rng, is_sampled: bool) -> Self {
        // Never all zero.
        let trace_id = hex(random.u128(1..));
        Self { trace_id, parent_id: [b'0'; 16], is_sampled }
    }

    /// The trace's id as it is logged.
    pub fn trace_id(&self) -> &str {
        text(&self.trace_id)
    }

    /// The caller's span; none if there is no caller.
    pub fn parent_id(&self) -> Option<&str> {
        self.parent_id.iter().any(|byte| *byte != b'0').then(|| text(&self.parent_id))
    }

    /// The header for a call whose span is `span_id`.
    pub fn header(&self, span_id: &SpanId) -> String {
        format!("00-{}-{}-0{}", self.trace_id(), span_id.as_str(), u8::from(self.is_sampled))
    }
}

/// The id of a span: 16 hexadecimal digits that are not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 16]);

impl SpanId {
    /// Another one.
    pub fn new(random: &mut fastrand::Rng) -> Self {
        Self(hex(u128::from(random.u64(1..))))
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        text(&self.0)
    }
}

/// The last `N` hexadecimal digits of a number.
fn hex<const N: usize>(mut number: u128) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
    digits
}

/// Digits are ASCII.
fn text(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn parse(text: &str) -> Option<TraceContext> {
        TraceContext::parse(text.as_bytes())
    }

    #[test]
    fn the_examples_of_the_recommendation_and_what_it_rules_out() {
        let known = parse(&format!("00-{TRACE}-{SPAN}-01")).unwrap();
        assert_eq!((known.trace_id(), known.parent_id(), known.is_sampled), (TRACE, Some(SPAN), true));
        assert!(!parse(&format!("00-{TRACE}-{SPAN}-02")).unwrap().is_sampled);
        assert!(parse(&format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like")).is_some());
        for wrong in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00_{TRACE}-{SPAN}-01"),
            "00-é".to_owned(),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_told_can_be_read_again() {
        let mut random = fastrand::Rng::with_seed(7);
        let mine = TraceContext::begin(&mut random, true);
        assert_eq!(mine.parent_id(), None);
        let span = SpanId::new(&mut random);
        let read = parse(&mine.header(&span)).unwrap();
        assert_eq!((read.trace_id(), read.parent_id(), read.is_sampled), (mine.trace_id(), Some(span.as_str()), true));
        let quiet = TraceContext { is_sampled: false, ..mine };
        assert!(quiet.header(&span).ends_with("-00"));
    }
}
