//! Whether a provider's list of models names a model, in the forms in which providers list them.

use serde::Deserialize;

/// One model; all else about it is left unread.
#[derive(Deserialize)]
struct Model {
    id: String,
}

/// `{"object":"list","data":[…]}`, or the bare list that some compatible servers answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Listing {
    Wrapped { data: Vec<Model> },
    Bare(Vec<Model>),
}

/// Whether the list names exactly this model. False where it is no list.
pub(super) fn names(body: &[u8], model: &str) -> bool {
    let models = match serde_json::from_slice(body) {
        Ok(Listing::Wrapped { data }) => data,
        Ok(Listing::Bare(models)) => models,
        Err(_) => return false,
    };
    models.iter().any(|listed| listed.id == model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_in_either_form_and_names_are_exact() {
        for (body, expected) in [
            (r#"{"object":"list","data":[{"id":"a","object":"model"},{"id":"m","created":1}]}"#, true),
            (r#"[{"id":"m"}]"#, true),
            (r#"{"object":"list","data":[{"id":"m-mini"},{"id":"M"}]}"#, false),
            (r#"{"object":"list","data":[]}"#, false),
            (r#"{"id":"m"}"#, false),
            ("<html>m</html>", false),
            ("", false),
        ] {
            assert_eq!(names(body.as_bytes(), "m"), expected, "{body}");
        }
    }
}
