//! The rows as a drawing: bars on a logarithmic axis, since the slowest is some hundred times as slow as the fastest.

use std::fmt::Write as _;

use crate::peers::Kind;
use crate::report::Row;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 90.0;
const BAR: f64 = 11.0;
const GAP: f64 = 9.0;
const TITLE: f64 = 34.0;

/// What a bar shows of a row; none if the row has none of it.
type Value = fn(&Row) -> Option<f64>;

/// A part of the drawing: what it shows, in which unit, of which scenarios at which concurrency.
struct Panel {
    title: &'static str,
    digits: usize,
    value: Value,
    of: &'static [(&'static str, usize)],
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "CPU per request, µs (streams: of 50 events)",
        digits: 1,
        value: |row| positive(row.costs.median() * 1e6),
        of: &[
            ("plain", 64),
            ("stream", 64),
            ("large", 16),
            ("huge", 4),
            ("failover", 16),
            ("refused", 16),
            ("open", 64),
            ("half", 64),
            ("tls", 64),
        ],
    },
    Panel {
        title: "median latency added to the direct way, µs",
        digits: 0,
        value: |row| positive((row.median.median() - row.direct?.as_secs_f64()) * 1e6),
        of: &[("plain", 1), ("calm", 16), ("failover", 1), ("refused", 1), ("hang", 16)],
    },
    Panel {
        title: "99th percentile, µs",
        digits: 0,
        value: |row| positive(row.late.median() * 1e6),
        of: &[("plain", 1), ("calm", 16), ("brisk", 64), ("failover", 1), ("refused", 1)],
    },
    Panel {
        title: "resident memory, MiB (idle after the start, at 256 connections, 2,000 streams)",
        digits: 1,
        value: |row| positive(row.resident? as f64 / f64::from(1 << 20)),
        of: &[("start", 1), ("plain", 256), ("slow", 2_000)],
    },
];

fn positive(value: f64) -> Option<f64> {
    (0.0 < value).then_some(value)
}

/// Who is drawn, and how.
const fn colour(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Breakwater => Some("#0b7285"),
        Kind::Nginx => Some("#74b816"),
        Kind::Haproxy => Some("#4c6ef5"),
        Kind::Portkey => Some("#f08c00"),
        Kind::Litellm => Some("#c2255c"),
        Kind::Direct | Kind::Unlogged | Kind::ManyBackends | Kind::ManyKeys | Kind::OneWorker | Kind::TwoWorkers => {
            None
        }
    }
}

/// An SVG image.
pub(crate) fn draw(rows: &[Row]) -> String {
    let (mut body, mut y) = (String::new(), 10.0);
    for panel in PANELS {
        y = draw_panel(&mut body, &panel, rows, y);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y:.0}\" viewBox=\"0 0 {WIDTH} {y:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// One bar: its group, whose it is, how long.
struct Bar {
    group: usize,
    kind: Kind,
    colour: &'static str,
    value: f64,
}

/// Draws a panel at `y`, and says where it ends.
fn draw_panel(out: &mut String, panel: &Panel, rows: &[Row], mut y: f64) -> f64 {
    let mut bars = Vec::new();
    for (group, (scenario, connections)) in panel.of.iter().enumerate() {
        let of_group = rows.iter().filter(|row| row.scenario == *scenario && row.connections == *connections);
        bars.extend(of_group.filter_map(|row| {
            let (colour, value) = (colour(row.contestant)?, (panel.value)(row)?);
            Some(Bar { group, kind: row.contestant, colour, value })
        }));
    }
    let most = bars.iter().map(|bar| bar.value).fold(1.0, f64::max).log10();
    let least = bars.iter().map(|bar| bar.value).fold(f64::INFINITY, f64::min).log10().floor();
    if bars.is_empty() {
        return y;
    }
    let across = WIDTH - LEFT - RIGHT;
    let length = |value: f64| (value.log10() - least) / (most - least).max(0.1) * across;
    y += TITLE;
    // A write into a string does not fail.
    let _ = writeln!(
        out,
        "<text x=\"8\" y=\"{:.0}\" font-size=\"14\" font-weight=\"bold\">{}</text>",
        y - 12.0,
        panel.title
    );
    let mut last = None;
    for bar in &bars {
        if last != Some(bar.group) {
            y += if last.is_some() { GAP } else { 0.0 };
            last = Some(bar.group);
            let (scenario, connections) = panel.of[bar.group];
            let _ = writeln!(
                out,
                "<text x=\"8\" y=\"{:.0}\" font-weight=\"bold\">{scenario}</text><text x=\"8\" y=\"{:.0}\" \
                 fill=\"#868e96\">{connections} at a time</text>",
                y + BAR - 1.0,
                y + BAR * 2.0 + 3.0
            );
        }
        let (width, colour) = (length(bar.value).max(2.0), bar.colour);
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text><rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"{:.0}\">{:.*}</text>",
            LEFT - 6.0,
            y + BAR - 1.0,
            bar.kind.name(),
            LEFT + width + 5.0,
            y + BAR - 1.0,
            panel.digits,
            bar.value
        );
        y += BAR + 2.0;
    }
    y + GAP
}
