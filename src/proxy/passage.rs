//! Carries headers past the gateway without a map of their own; which of them pass is [`forward`]'s to say.

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::forward;
use super::upstream::{Headers, Lines};

/// The headers of a call.
pub(super) struct ToProvider<'a> {
    pub(super) client: &'a HeaderMap,
    pub(super) also: &'a [String],
    pub(super) own: &'a [(HeaderName, HeaderValue)],
    pub(super) request_id: &'a HeaderValue,
    /// A credential that is renewed.
    pub(super) bearer: Option<&'a HeaderValue>,
    /// What stands in the place of the client's own, where the request is traced.
    pub(super) trace: Option<&'a HeaderValue>,
}

impl Headers for ToProvider<'_> {
    fn fill(&self, out: &mut HeaderMap) {
        forward::to_provider(out, self.client, self.also, self.own, self.request_id);
        if let Some(bearer) = self.bearer {
            out.insert(AUTHORIZATION, bearer.clone());
        }
        if let Some(trace) = self.trace {
            out.insert(forward::TRACEPARENT, trace.clone());
        }
    }

    fn write(&self, out: &mut Lines<'_>) {
        let Self { client, also, own, request_id, bearer, trace } = self;
        forward::each_to_provider(client, also, own, request_id, |name, value| {
            let is_replaced =
                trace.is_some() && *name == forward::TRACEPARENT || bearer.is_some() && *name == AUTHORIZATION;
            if !is_replaced {
                out.put(name, value);
            }
        });
        if let Some(bearer) = bearer {
            out.put(&AUTHORIZATION, bearer);
        }
        if let Some(trace) = trace {
            out.put(&forward::TRACEPARENT, trace);
        }
    }
}
