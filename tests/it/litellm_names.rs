//! The metrics under the names that LiteLLM's dashboards know.

use breakwater::simulator::{Fault, Status};

use crate::support::{Ask, Gateway, Providers};

#[test]
fn litellms_names_say_the_same_where_they_are_asked_for() {
    let providers = Providers::pair();
    let gateway = Gateway::start(providers.yaml("server: {metrics: {litellm_names: true}}\n"));
    assert_eq!(gateway.ask(&Ask::chat("r")).status(), 200);
    providers.fault("openai", Fault::Status(Status::new(503)));
    assert_eq!(gateway.ask(&Ask::stream("r")).trail(), "openai=service_unavailable_error;azure=200");
    assert_eq!(gateway.ask(&Ask::chat("nobody")).status(), 404);
    let scrape =
        gateway.wait_scrape("all three", |scrape| scrape.sum("litellm_proxy_total_requests_metric_total", &[]) == 3.0);
    let sum = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels);
    let route = ("requested_model", "r");
    let served = [route, ("route", "/v1/chat/completions"), ("status_code", "200")];
    assert_eq!(sum("litellm_proxy_total_requests_metric_total", &served), 2.0);
    assert_eq!(sum("litellm_proxy_failed_requests_metric_total", &[("exception_status", "404")]), 1.0);
    assert_eq!(sum("litellm_request_total_latency_metric_count", &[route]), 2.0);
    assert_eq!(sum("litellm_request_total_latency_metric_bucket", &[route, ("le", "+Inf")]), 2.0);
    let first = [route, ("model_id", "openai"), ("api_provider", "openai"), ("litellm_model_name", "gpt-4o")];
    assert_eq!(sum("litellm_deployment_total_requests_total", &first), 2.0);
    assert_eq!(sum("litellm_deployment_success_responses_total", &first), 1.0);
    let failed = [route, ("model_id", "openai"), ("exception_class", "ServiceUnavailableError")];
    assert_eq!(sum("litellm_deployment_failure_responses_total", &failed), 1.0);
    let base = providers.url("azure");
    let second = [route, ("model_id", "azure"), ("api_base", base.as_str())];
    assert_eq!(sum("litellm_deployment_success_responses_total", &second), 1.0);
    assert_eq!(sum("litellm_llm_api_latency_metric_count", &[]), 2.0);
    assert_eq!(sum("litellm_llm_api_time_to_first_token_metric_count", &[("model_id", "azure")]), 1.0);
    assert_eq!(sum("litellm_in_flight_requests", &[]), 0.0);
    let tokens = ["input", "output"].map(|kind| sum(&format!("litellm_{kind}_tokens_metric_total"), &[route]));
    assert!(tokens.iter().all(|tokens| 0.0 < *tokens), "{tokens:?}");
    assert_eq!(sum("litellm_total_tokens_metric_total", &[route]), tokens[0] + tokens[1]);
    assert_eq!(sum("litellm_total_tokens_metric_total", &[]), sum("breakwater_tokens_total", &[]));

    let plain = Gateway::start(providers.yaml(""));
    plain.ask(&Ask::chat("r"));
    assert!(!plain.ask(&Ask::get("/metrics")).text().contains("litellm_"), "only where they are asked for");
}

#[test]
fn an_open_circuit_is_an_outage() {
    let providers = Providers::pair();
    providers.fault("openai", Fault::Status(Status::new(500)));
    let gateway = Gateway::start(providers.yaml("server: {metrics: {litellm_names: true}}\n"));
    let state = |id: &str| gateway.scrape().sum("litellm_deployment_state", &[("model_id", id)]);
    assert_eq!((state("openai"), state("azure")), (0.0, 0.0));
    for _ in 0..10 {
        gateway.ask(&Ask::chat("r"));
    }
    assert_eq!((state("openai"), state("azure")), (2.0, 0.0));
    assert_eq!(gateway.scrape().sum("litellm_deployment_cooled_down_total", &[("model_id", "openai")]), 1.0);
}
