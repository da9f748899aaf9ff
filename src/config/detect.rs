//! Which provider an entry means (spec/config.md 3). Pure.

/// What speaks at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// OpenAI.
    OpenAi,
    /// Azure OpenAI.
    Azure,
    /// A compatible server of that prefix.
    Compatible(&'static Compatible),
    /// Any other server at an `api_base`.
    Generic,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Azure => "azure",
            Self::Compatible(compatible) => compatible.name,
            Self::Generic => "compatible",
        }
    }
}

/// A compatible provider that LiteLLM knows by a prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Compatible {
    /// The prefix.
    pub(super) name: &'static str,
    /// Where it is, unless `api_base` says.
    pub(super) base: Option<&'static str>,
    /// The variable of its key.
    pub(super) variable: &'static str,
}

const fn hosted(name: &'static str, base: &'static str, variable: &'static str) -> Compatible {
    Compatible { name, base: Some(base), variable }
}

const fn own(name: &'static str, variable: &'static str) -> Compatible {
    Compatible { name, base: None, variable }
}

/// By prefix.
static COMPATIBLE: [Compatible; 17] = [
    hosted("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    hosted("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    hosted("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    hosted("together_ai", "https://api.together.ai/v1", "TOGETHER_AI_API_KEY"),
    hosted("fireworks_ai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    hosted("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    hosted("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
    hosted("perplexity", "https://api.perplexity.ai", "PERPLEXITY_API_KEY"),
    hosted("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    hosted("nvidia_nim", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    hosted("ollama", "http://localhost:11434/v1", "OLLAMA_API_KEY"),
    own("hosted_vllm", "HOSTED_VLLM_API_KEY"),
    own("lm_studio", "LM_STUDIO_API_KEY"),
    own("llamafile", "LLAMAFILE_API_KEY"),
    own("openai_like", "OPENAI_LIKE_API_KEY"),
    own("custom_openai", "CUSTOM_OPENAI_API_KEY"),
    own("litellm_proxy", "LITELLM_PROXY_API_KEY"),
];

/// Providers that LiteLLM speaks to and we do not.
const UNSUPPORTED: [&str; 23] = [
    "anthropic",
    "bedrock",
    "vertex_ai",
    "vertex_ai_beta",
    "gemini",
    "cohere",
    "cohere_chat",
    "palm",
    "sagemaker",
    "sagemaker_chat",
    "huggingface",
    "replicate",
    "ai21",
    "watsonx",
    "azure_ai",
    "databricks",
    "cloudflare",
    "voyage",
    "jina_ai",
    "snowflake",
    "triton",
    "predibase",
    "oci",
];

/// Bare model names that belong to vendors we do not speak to yet.
const FOREIGN_MODELS: [&str; 3] = ["claude", "gemini", "command"];

/// What an entry says about its provider.
#[derive(Clone, Copy, Default)]
pub(super) struct Evidence<'e> {
    /// `custom_llm_provider`.
    pub(super) custom_llm_provider: Option<&'e str>,
    /// `api_type`, as a kind.
    pub(super) api_type: Option<Kind>,
    /// `model`.
    pub(super) model: &'e str,
    /// Whether `azure_deployment` or `azure_ad_token` is set.
    pub(super) has_azure_key: bool,
    /// The host of `api_base`.
    pub(super) host: Option<&'e str>,
    /// Whether there is an `api_base` at all, readable or not.
    pub(super) has_base: bool,
}

/// What it comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict<'e> {
    /// The kind and the model without prefix.
    Known {
        /// What speaks there.
        kind: Kind,
        /// The model or deployment.
        model: &'e str,
        /// Whether only the host gave Azure away.
        is_by_host: bool,
    },
    /// A provider that is not supported.
    Unsupported(&'e str),
    /// Two explicit answers differ.
    Contradiction {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
}

/// The provider, if what an entry says by itself already rules it out: then nothing else in it is of interest.
pub(super) fn unsupported<'e>(
    custom: Option<&'e str>,
    model: &'e str,
    has_type: bool,
    has_base: bool,
) -> Option<&'e str> {
    let api_type = has_type.then_some(Kind::OpenAi);
    let evidence = Evidence { custom_llm_provider: custom, api_type, model, has_base, ..Evidence::default() };
    match detect(evidence) {
        Verdict::Unsupported(provider) => Some(provider),
        Verdict::Known { .. } | Verdict::Contradiction { .. } => None,
    }
}

/// Decides: the first match counts, two explicit answers must agree.
pub(super) fn detect(evidence: Evidence<'_>) -> Verdict<'_> {
    let Evidence { custom_llm_provider, api_type, model, has_azure_key, host, has_base } = evidence;
    let custom = match custom_llm_provider {
        None => None,
        Some(name) => match by_name(name) {
            Some(kind) => Some(kind),
            None if has_base && !UNSUPPORTED.contains(&name) => Some(Kind::Generic),
            None => return Verdict::Unsupported(name),
        },
    };
    let (prefix, rest) = split(model);
    let by_prefix = prefix.and_then(by_name);
    let explicit = [
        custom.map(|kind| (kind, format!("custom_llm_provider says {}", kind.name()))),
        api_type.map(|kind| (kind, format!("api_type says {}", kind.name()))),
        by_prefix.map(|kind| (kind, format!("the prefix of model says {}", kind.name()))),
    ];
    let mut answers = explicit.into_iter().flatten();
    if let Some((kind, first)) = answers.next() {
        if let Some((_, second)) = answers.find(|(other, _)| *other != kind) {
            return Verdict::Contradiction { first, second };
        }
        return Verdict::Known { kind, model: if by_prefix.is_some() { rest } else { model }, is_by_host: false };
    }
    if let Some(name) = prefix.filter(|prefix| UNSUPPORTED.contains(prefix)) {
        return Verdict::Unsupported(name);
    }
    if has_azure_key {
        return Verdict::Known { kind: Kind::Azure, model, is_by_host: false };
    }
    if host.is_some_and(super::url::is_azure_host) {
        return Verdict::Known { kind: Kind::Azure, model, is_by_host: true };
    }
    if has_base {
        return Verdict::Known { kind: Kind::Generic, model, is_by_host: false };
    }
    if let Some(prefix) = prefix {
        return Verdict::Unsupported(prefix);
    }
    match FOREIGN_MODELS.iter().find(|name| model.starts_with(**name)) {
        Some(name) => Verdict::Unsupported(name),
        None => Verdict::Known { kind: Kind::OpenAi, model, is_by_host: false },
    }
}

fn by_name(name: &str) -> Option<Kind> {
    match name {
        "openai" | "text-completion-openai" => Some(Kind::OpenAi),
        "azure" | "azure_text" => Some(Kind::Azure),
        // Its own two dialects in LiteLLM; here both go by its OpenAI-compatible one.
        "ollama_chat" => by_name("ollama"),
        _ => COMPATIBLE.iter().find(|known| known.name == name).map(Kind::Compatible),
    }
}

/// The prefix and what stands behind it, LiteLLM's inner prefixes skipped.
fn split(model: &str) -> (Option<&str>, &str) {
    let Some((prefix, rest)) = model.split_once('/') else { return (None, model) };
    let inner: &[&str] = match prefix {
        "azure" => &["o_series/", "gpt5_series/", "responses/"],
        "openai" => &["responses/"],
        _ => &[],
    };
    let rest = inner.iter().find_map(|inner| rest.strip_prefix(inner)).unwrap_or(rest);
    (Some(prefix), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kind model`, with `by host` where that was it; or what else came of it.
    fn said(evidence: Evidence<'_>) -> String {
        match detect(evidence) {
            Verdict::Known { kind, model, is_by_host } => {
                format!("{} {model}{}", kind.name(), if is_by_host { " by host" } else { "" })
            }
            Verdict::Unsupported(name) => format!("unsupported {name}"),
            Verdict::Contradiction { first, second } => format!("{first}, {second}"),
        }
    }

    #[test]
    fn the_first_evidence_decides() {
        let model = |model| Evidence { model, ..Evidence::default() };
        let at = |model, host| Evidence { model, host: Some(host), has_base: true, ..Evidence::default() };
        let table = [
            (Evidence { custom_llm_provider: Some("openai"), ..at("meta/llama", "h") }, "openai meta/llama"),
            (Evidence { custom_llm_provider: Some("azure"), ..model("d") }, "azure d"),
            (Evidence { custom_llm_provider: Some("bedrock"), ..model("x") }, "unsupported bedrock"),
            (Evidence { custom_llm_provider: Some("mine"), ..at("x", "h") }, "compatible x"),
            (Evidence { custom_llm_provider: Some("mine"), ..model("x") }, "unsupported mine"),
            (Evidence { api_type: Some(Kind::Azure), ..model("gpt-4o") }, "azure gpt-4o"),
            (Evidence { api_type: Some(Kind::Azure), ..model("azure/d") }, "azure d"),
            (
                Evidence { api_type: Some(Kind::Azure), ..model("openai/gpt-4o") },
                "api_type says azure, the prefix of model says openai",
            ),
            (
                Evidence { custom_llm_provider: Some("groq"), api_type: Some(Kind::OpenAi), ..model("x") },
                "custom_llm_provider says groq, api_type says openai",
            ),
            (model("azure/d"), "azure d"),
            (model("azure/o_series/d"), "azure d"),
            (model("azure/gpt5_series/d"), "azure d"),
            (model("openai/gpt-4o"), "openai gpt-4o"),
            (model("openai/responses/gpt-5"), "openai gpt-5"),
            (model("text-completion-openai/x"), "openai x"),
            (model("groq/llama-3"), "groq llama-3"),
            (model("ollama_chat/llama3.1"), "ollama llama3.1"),
            (model("openrouter/meta/llama"), "openrouter meta/llama"),
            (model("anthropic/claude-x"), "unsupported anthropic"),
            (model("bedrock/x"), "unsupported bedrock"),
            (at("anthropic/claude-x", "h"), "unsupported anthropic"),
            (Evidence { has_azure_key: true, ..model("gpt-4o") }, "azure gpt-4o"),
            (at("gpt-4o", "r.openai.azure.com"), "azure gpt-4o by host"),
            (at("openai/dep", "r.openai.azure.com"), "openai dep"),
            (at("meta-llama/Llama-3", "h"), "compatible meta-llama/Llama-3"),
            (at("claude-x", "h"), "compatible claude-x"),
            (model("meta-llama/Llama-3"), "unsupported meta-llama"),
            (model("gpt-4o"), "openai gpt-4o"),
            (model("claude-3"), "unsupported claude"),
            (model("gemini-pro"), "unsupported gemini"),
            (model("command-r"), "unsupported command"),
            (model("*"), "openai *"),
            (model("openai/*"), "openai *"),
        ];
        for (evidence, expected) in table {
            assert_eq!(said(evidence), expected, "{}", evidence.model);
        }
    }

    #[test]
    fn every_compatible_prefix_has_its_base_and_variable() {
        for known in &COMPATIBLE {
            let url = known.base.map(|base| super::super::url::parse(base).unwrap());
            assert_eq!(url.is_some(), known.base.is_some());
            assert_eq!(known.variable, format!("{}_API_KEY", known.name.to_uppercase()));
        }
    }
}
