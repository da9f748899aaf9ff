//! What a reload does before anything changes: reading a large file, and comparing it with the one in force.

use std::fmt::Write as _;
use std::hint::black_box;

use breakwater::config::{SystemSource, diff, load_text};

use super::meter::Meter;

/// A thousand backends, three hundred routes of four.
fn text(number: usize) -> String {
    let mut text = "server: {host: 127.0.0.1}\nmodel_list:\n".to_owned();
    for backend in 0..1_000 {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  - {{model_name: b{backend}, litellm_params: {{model: gpt-4o, api_key: key-{backend}, api_base: \"http://127.0.0.1:9/v1\"}}}}"
        );
    }
    text.push_str("router:\n");
    for route in 0..300 {
        let member =
            |at| format!("{{name: b{}, priority: 1, weight: {}}}", (route * 4 + at) % 1_000, 1 + (number + at) % 5);
        let members: Vec<String> = (0..4).map(member).collect();
        let _ = writeln!(text, "  - {{model_name: r{route}, models: [{}]}}", members.join(", "));
    }
    text
}

pub(crate) fn measure(meter: &mut Meter) -> Result<(), String> {
    let texts = [text(0), text(1)];
    let load = |text: &str| load_text("config.yaml", text, &SystemSource).map_err(|report| report.to_string());
    let configs = [load(&texts[0])?.config, load(&texts[1])?.config];
    meter.measure("config: load 1,000 backends and 300 routes", |count| {
        (0..count).for_each(|_| drop(black_box(load(&texts[0]))));
    });
    meter.measure("config: compare two such, every route changed", |count| {
        (0..count).for_each(|_| drop(black_box(diff::changes(&configs[0], &configs[0], &configs[1]))));
    });
    meter.measure("config: compare two such, nothing changed", |count| {
        (0..count).for_each(|_| drop(black_box(diff::changes(&configs[0], &configs[0], &configs[0]))));
    });
    Ok(())
}
