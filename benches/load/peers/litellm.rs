//! LiteLLM's proxy, one worker.

use std::fmt::Write as _;

use crate::primary::{Primary, Upstreams};

/// What it runs with: no prices from the net, no key of its own, no log but errors.
pub(crate) const ENVIRONMENT: [&str; 3] = [
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY=true",
    "LITELLM_LOCAL_MODEL_COST_MAP=True",
    "LITELLM_LOG=ERROR",
];

/// What it is measured with: a model for each of these.
pub(crate) const PRIMARIES: [Primary; 3] = [Primary::Working, Primary::Failing, Primary::Refusing];

/// A model per primary, with the working one as its fallback. Nothing is retried, and nobody is put aside.
pub(crate) fn yaml(upstreams: &Upstreams, upstream_model: &str) -> String {
    let mut text = "model_list:\n".to_owned();
    for primary in PRIMARIES {
        for server in upstreams.first(primary) {
            // A write into a string does not fail.
            let _ = writeln!(
                text,
                "  - {{model_name: {}, litellm_params: {{model: openai/{upstream_model}, api_base: 'http://{server}/v1', \
                 api_key: bench}}}}",
                primary.name()
            );
        }
    }
    text.push_str(
        "litellm_settings: {num_retries: 0, telemetry: false, fallbacks: [{failing: [working]}, {refusing: [working]}]}\n\
         router_settings: {num_retries: 0, disable_cooldowns: true}\n",
    );
    text
}
