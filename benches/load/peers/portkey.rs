//! Portkey's gateway: it has no file, each request brings its route in a header.

use crate::primary::{Primary, Upstreams};

/// The header line that names a route.
pub(crate) fn route(upstreams: &Upstreams, primary: Primary) -> String {
    let target = |server| format!(r#"{{"provider":"openai","custom_host":"http://{server}/v1","api_key":"bench"}}"#);
    let spare = upstreams.spare(primary).filter(|_| primary != Primary::Working);
    let targets: Vec<String> = upstreams.first(primary).into_iter().chain(spare).map(target).collect();
    match targets.as_slice() {
        [only] => format!("x-portkey-config: {only}\r\n"),
        targets => format!(
            "x-portkey-config: {{\"strategy\":{{\"mode\":\"fallback\"}},\"targets\":[{}]}}\r\n",
            targets.join(",")
        ),
    }
}
