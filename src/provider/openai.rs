//! OpenAI and every server that speaks like it.

/// The path of an operation under a base path, which is used as given (spec/wire.md 2.1).
pub(super) fn path(base: &str, operation: &str) -> String {
    format!("{base}/{operation}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_base_is_used_as_given() {
        assert_eq!(super::path("/v1", "chat/completions"), "/v1/chat/completions");
        assert_eq!(super::path("", "responses"), "/responses");
    }
}
