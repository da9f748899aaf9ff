//! `breakwater demo` and `breakwater simulate`: rehearse an outage without a key or an account.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use super::arguments::Options;
use super::{NO_ADDRESS, USAGE, fail, say, serve};
use crate::config::{self, Config, SystemSource};
use crate::simulator::{self, Simulator};

/// The demo's configuration: the simulator's ports, no environment.
const CONFIG: &str = include_str!("../../config/demo.yaml");

/// Its name in messages.
const NAME: &str = "config/demo.yaml";

/// Runs the gateway and its simulated providers in one process.
pub(super) fn run(options: &Options) -> ExitCode {
    let loaded = match config::load_text(NAME, CONFIG, &SystemSource) {
        Ok(loaded) => loaded,
        Err(report) => return fail(USAGE, &report.to_string()),
    };
    let config = serve::with_flags(loaded.config, options);
    match actix_rt::System::new().block_on(play(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, problem)) => fail(code, &problem),
    }
}

async fn play(config: Arc<Config>) -> Result<(), (u8, String)> {
    let mut simulated = simulator::Options::default();
    simulated.backends.truncate(2);
    let simulator = simulator::start(simulated).await.map_err(|error| {
        (NO_ADDRESS, format!("the simulated providers cannot listen on ports 4100 to 4102: {error}"))
    })?;
    serve::begin_events(&config)?;
    let (server, _) = serve::start(&config)?;
    let _ = say(&guide(server.address().port(), &simulator));
    server.run().await;
    simulator.stop().await;
    Ok(())
}

/// What to type.
fn guide(port: u16, simulator: &Simulator) -> String {
    let control = simulator.control();
    format!(
        "\
Breakwater listens on http://127.0.0.1:{port}/v1 in front of a simulated OpenAI and a simulated Azure OpenAI.
No key, no account, nothing leaves this machine. In another terminal:

# 1. Ask. The headers say who answered: openai-gpt4o.
curl -si http://127.0.0.1:{port}/v1/chat/completions -H 'content-type: application/json' -d '{{\"model\":\"gpt-4-router\",\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'

# 2. Break OpenAI: from now on it answers 503.
curl -s -X PUT http://{control}/backends/openai/rules -d '[{{\"fault\":{{\"status\":{{\"code\":503}}}}}}]'

# 3. Ask again (1). azure-gpt4o answers within the same request; x-breakwater-attempts tells both.
#    After five failures the circuit opens and OpenAI is not even tried.

# 4. Watch it in the metrics.
curl -s http://127.0.0.1:{port}/metrics | grep -E 'breakwater_(attempts_total|failovers_total|circuit_state)' | grep -v ' 0$'

# 5. Mend OpenAI. Probes find out, and traffic returns by itself.
curl -s -X DELETE http://{control}/backends/openai/rules

# A stream, and one that breaks after five events (the client is told, never silently cut short):
curl -sN http://127.0.0.1:{port}/v1/chat/completions -H 'content-type: application/json' -d '{{\"model\":\"gpt-4-router\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'
curl -s -X PUT http://{control}/backends/openai/preset/die_mid_stream

Ctrl-C ends it. One line per request follows.
"
    )
}

/// Where everything of a simulator listens.
fn addresses(simulator: &Simulator) -> String {
    let control = simulator.control();
    let mut text = format!("control http://{control} (GET /backends lists everything)");
    for (name, address, dialect) in simulator.backends() {
        text.push_str(&format!("\n{name} ({}) http://{address}", dialect.name()));
    }
    text
}

/// Runs the simulator alone.
pub(super) fn simulate(words: Vec<OsString>) -> ExitCode {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return say(simulator::Options::HELP);
    }
    let options = match simulator::Options::from_args(words.into_iter()) {
        Ok(options) => options,
        Err(problem) => return fail(USAGE, &format!("{problem}\n\nTry `breakwater simulate --help`.")),
    };
    let ended = actix_rt::System::new().block_on(async {
        let simulator = simulator::start(options).await?;
        let _ = say(&addresses(&simulator));
        tokio::signal::ctrl_c().await?;
        simulator.stop().await;
        Ok::<(), std::io::Error>(())
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(NO_ADDRESS, &format!("the simulator cannot run: {error}")),
    }
}
