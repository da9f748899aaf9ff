//! Labels of requests: what was asked, and how it ended.

use super::{Label, words};

words! {
    /// How a request ended.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum RequestOutcome {
        /// Answered well.
        Success = "success",
        /// An upstream blamed the request; relayed.
        ClientFault = "client_fault",
        /// Answered without upstream for a cause outside the plan: bad body, unknown model, ingress auth or limit, draining.
        Rejected = "rejected",
        /// The client left.
        ClientClosed = "client_closed",
        /// No further attempt was possible.
        Exhausted = "exhausted",
        /// A backend fault that does not fail over here; relayed.
        UpstreamError = "upstream_error",
        /// Broken after commit.
        StreamError = "stream_error",
        /// Cut by the drain limit.
        Shutdown = "shutdown",
        /// Our own bug or panic.
        InternalError = "internal_error",
    }

    /// Why nothing more could be tried (spec/resilience.md 9.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum ExhaustedReason {
        /// The request's time was over.
        Deadline = "deadline",
        /// Every backend is rate limited.
        RateLimited = "rate_limited",
        /// Every backend is out of quota.
        QuotaExhausted = "quota_exhausted",
        /// No backend could be selected.
        NoBackend = "no_backend",
        /// The queue was full.
        QueueFull = "queue_full",
        /// The wait in the queue was over.
        QueueTimeout = "queue_timeout",
        /// Every backend of the plan was tried.
        PlanSpent = "plan_spent",
        /// The attempts were used up.
        AttemptLimit = "attempt_limit",
        /// The retry budget was used up.
        RetryBudget = "retry_budget",
    }

    /// How a committed stream ended.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum StreamEnd {
        /// As it should.
        Completed = "completed",
        /// `[DONE]` without any finish reason; passes.
        DoneWithoutFinish = "done_without_finish",
        /// The client left.
        ClientClosed = "client_closed",
        /// Cut by the drain limit.
        Shutdown = "shutdown",
        /// Our own bug or panic.
        InternalError = "internal_error",
        /// An in-band error.
        UpstreamError = "upstream_error",
        /// Cut before its end.
        Truncated = "truncated",
        /// A gap was too long.
        IdleTimeout = "idle_timeout",
        /// The stream's time was over.
        TotalTimeout = "total_timeout",
    }

    /// Which operation was asked for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Endpoint {
        /// `chat/completions` and below.
        ChatCompletions = "chat_completions",
        /// `completions`.
        Completions = "completions",
        /// `embeddings`.
        Embeddings = "embeddings",
        /// `responses` and below.
        Responses = "responses",
        /// `images/…`.
        Images = "images",
        /// `audio/…`.
        Audio = "audio",
        /// `moderations`.
        Moderations = "moderations",
        /// `models`.
        Models = "models",
        /// Anything else.
        Other = "other",
    }

    /// Why a client was turned away.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum AuthFailure {
        /// No key was sent.
        Missing = "missing",
        /// The key is not known.
        Invalid = "invalid",
        /// The key is not for this route.
        RouteNotAllowed = "route_not_allowed",
    }

    /// What made a request leave its route.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum FallbackAfter {
        /// An attempt had failed.
        Failure = "failure",
        /// Nothing had been tried.
        Unavailable = "unavailable",
    }

    /// What came of a fallback route.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum FallbackResult {
        /// It answered.
        Served = "served",
        /// It did not.
        Failed = "failed",
    }

    /// Whether a stream was asked for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Asked {
        /// One whole answer.
        Whole = "false",
        /// A stream.
        Stream = "true",
    }

    /// Which way tokens went.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum TokenType {
        /// Prompt tokens.
        Input = "input",
        /// Completion tokens.
        Output = "output",
    }

    /// Parts of the tokens.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum TokenDetail {
        /// Prompt tokens read from a cache.
        CachedInput = "cached_input",
        /// Prompt tokens written to a cache.
        CacheWriteInput = "cache_write_input",
        /// Output tokens spent on reasoning.
        ReasoningOutput = "reasoning_output",
    }
}

impl RequestOutcome {
    /// Whether the gateway failed its client.
    pub fn is_bad(self) -> bool {
        match self {
            Self::Success | Self::ClientFault | Self::Rejected | Self::ClientClosed => false,
            Self::Exhausted | Self::UpstreamError | Self::StreamError | Self::Shutdown | Self::InternalError => true,
        }
    }
}
