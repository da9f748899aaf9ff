//! One `model_list` entry to an endpoint: provider, base URL, model, credential (spec/config.md 3).

use std::sync::Arc;

use super::context::{At, Context, Located, Secret};
use super::detect::{self, Evidence, Kind, Verdict};
use super::raw::{ApiType, CredentialEntry, Model, Raw};
use super::url::{self, AzureBase, Url};
use super::{ApiKey, BaseUrl, Credential, Provider, entra};

/// Everything a call needs.
pub(super) struct Endpoint {
    pub(super) provider: Provider,
    pub(super) base_url: BaseUrl,
    pub(super) upstream_model: String,
    pub(super) credential: Option<Credential>,
    pub(super) credential_reference: String,
}

/// Why an entry has no endpoint.
pub(super) enum Gone {
    /// Its provider is not supported: the entry is left out with a warning.
    Unsupported(String),
    /// It is left out for another reason, which has been said.
    LeftOut,
    /// Something is wrong with it, which has been said.
    Broken,
}

/// Used where nobody names a version.
const DEFAULT_API_VERSION: &str = "2025-02-01-preview";
/// What stands for a base URL whose placeholder's value is not to be had (RFC 2606: no such host exists).
const UNKNOWN_BASE: &str = "https://unknown.invalid/v1";
const OPENAI_BASE: &str = "https://api.openai.com/v1";
const AZURE_KEYS: [&str; 2] = ["AZURE_OPENAI_API_KEY", "AZURE_API_KEY"];
const AZURE_TOKENS: [&str; 2] = ["AZURE_OPENAI_AD_TOKEN", "AZURE_AD_TOKEN"];
const AZURE_BASES: [&str; 2] = ["AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE"];
const AZURE_VERSIONS: [&str; 3] = ["AZURE_OPENAI_API_VERSION", "AZURE_API_VERSION", "OPENAI_API_VERSION"];
const OPENAI_BASES: [&str; 2] = ["OPENAI_BASE_URL", "OPENAI_API_BASE"];

/// What an entry says, its `credential_list` entry filled in.
struct Given<'g> {
    context: &'g Context<'g>,
    model: &'g Model,
    api_key: Option<&'g Located<Secret>>,
    api_base: Option<&'g Located<String>>,
    api_version: Option<&'g Located<String>>,
}

/// A base and whether the environment gave it.
struct Base {
    url: Url,
    at: At,
    is_from_environment: bool,
}

/// Resolves an entry.
pub(super) fn resolve(context: &Context<'_>, raw: &Raw<'_>, model: &Model) -> Result<Endpoint, Gone> {
    let credentials = named_credentials(context, raw, model);
    let given = Given {
        context,
        model,
        api_key: model.api_key.as_ref().or_else(|| credentials?.api_key.as_ref()),
        api_base: model.api_base.as_ref().or_else(|| credentials?.api_base.as_ref()),
        api_version: model.api_version.as_ref().or_else(|| credentials?.api_version.as_ref()),
    };
    let written = match given.api_base {
        None => None,
        Some(base) => Some(given.parse(&base.value, &base.at)?),
    };
    let evidence = Evidence {
        custom_llm_provider: model.custom_llm_provider.as_ref().map(|name| name.value.as_str()),
        api_type: model.api_type.as_ref().map(|kind| match kind.value {
            ApiType::OpenAi => Kind::OpenAi,
            ApiType::Azure | ApiType::AzureAd => Kind::Azure,
        }),
        model: &model.model.value,
        has_azure_key: model.azure_deployment.is_some() || model.azure_ad_token.is_some() || model.entra.is_written(),
        host: written.as_ref().map(|url| url.base.host.as_str()),
        has_base: written.is_some(),
    };
    let (kind, name) = match detect::detect(evidence) {
        Verdict::Known { kind, model: name, is_by_host } => {
            if is_by_host {
                let help =
                    "say `api_type: azure`, or `custom_llm_provider: openai` if OpenAI's dialect is meant".to_owned();
                context.warning(
                    "BW409",
                    &model.at,
                    "taken as Azure by its host; LiteLLM would call it as OpenAI",
                    Some(help),
                );
            }
            (kind, name.to_owned())
        }
        Verdict::Unsupported(name) => return Err(Gone::Unsupported(name.to_owned())),
        Verdict::Contradiction { first, second } => {
            context.error("BW402", &model.model.at, format!("{first}, but {second}"), None);
            return Err(Gone::Broken);
        }
    };
    match kind {
        Kind::Azure => given.azure(written, name),
        Kind::OpenAi => given.openai(written, name),
        Kind::Compatible(known) => given.compatible(written, name, known),
        Kind::Generic => given.generic(written, name),
    }
}

fn named_credentials<'r>(context: &Context<'_>, raw: &'r Raw<'_>, model: &Model) -> Option<&'r CredentialEntry> {
    let name = model.credential_name.as_ref()?;
    let found = raw.credentials.iter().find(|entry| entry.name == name.value);
    if found.is_none() {
        let known = raw.credentials.iter().map(|entry| entry.name.as_str());
        let help = super::suggest::nearest(&name.value, known).map(|near| format!("did you mean `{near}`?"));
        context.error("BW205", &name.at, format!("`credential_list` has no `{}`", name.value), help);
    }
    found
}

impl Given<'_> {
    fn parse(&self, text: &str, at: &At) -> Result<Url, Gone> {
        let text = if self.context.is_opaque(text) { UNKNOWN_BASE } else { text };
        url::parse(text).map_err(|refusal| self.refuse_url(refusal, at))
    }

    fn refuse_url(&self, refusal: url::Refusal, at: &At) -> Gone {
        let help = refusal.repaired.map(|url| format!("write `{url}`"));
        self.context.error("BW404", at, refusal.message, help);
        Gone::Broken
    }

    fn environment(&self, names: &[&'static str]) -> Option<(&'static str, String)> {
        let value = |name: &&'static str| Some((*name, self.context.variable(name).filter(|value| !value.is_empty())?));
        names.iter().find_map(value)
    }

    /// The written base, else the environment's, else none.
    fn base(&self, written: Option<Url>, names: &[&'static str]) -> Result<Option<Base>, Gone> {
        if let (Some(url), Some(base)) = (written, self.api_base) {
            return Ok(Some(Base { url, at: base.at.clone(), is_from_environment: false }));
        }
        let blind = || self.context.is_blind().then(|| ("", UNKNOWN_BASE.to_owned()));
        // A provider with an address of its own needs none of the environment.
        let needed = || if names == AZURE_BASES { blind() } else { None };
        let Some((_, text)) = self.environment(names).or_else(needed) else { return Ok(None) };
        let url = self.parse(&text, &self.model.at)?;
        Ok(Some(Base { url, at: self.model.at.clone(), is_from_environment: true }))
    }

    /// Whether the environment's key may go there: to the provider's own host, or to the base of the same environment.
    fn may_use_environment(
        &self,
        base: &BaseUrl,
        is_own_host: bool,
        is_from_environment: bool,
        names: &[&'static str],
    ) -> bool {
        let is_same = || {
            let (_, text) = self.environment(names)?;
            let url = url::parse(&text).ok()?;
            Some(url.base.host == base.host && url.base.port == base.port && url.base.tls == base.tls)
        };
        is_own_host || is_from_environment || is_same().unwrap_or(false)
    }

    fn azure(&self, written: Option<Url>, name: String) -> Result<Endpoint, Gone> {
        let model = self.model;
        let Some(base) = self.base(written, &AZURE_BASES)? else {
            let help = "give `api_base`, or set AZURE_OPENAI_ENDPOINT".to_owned();
            self.context.error("BW403", &model.at, "an Azure backend needs `api_base`", Some(help));
            return Err(Gone::Broken);
        };
        let read = url::azure(base.url).map_err(|refusal| self.refuse_url(refusal, &base.at))?;
        let deployment = self.deployment(&read, &base.at, name)?;
        let provider = self.azure_version(&read);
        self.check_plain_http(&read.base, &base.at);
        let is_own = url::is_azure_host(&read.base.host);
        let may = self.may_use_environment(&read.base, is_own, base.is_from_environment, &AZURE_BASES);
        let (credential, credential_reference) = self.azure_credential(may);
        self.check_credential(credential.is_none(), is_own, &read.base);
        Ok(Endpoint { provider, base_url: read.base, upstream_model: deployment, credential, credential_reference })
    }

    fn deployment(&self, read: &AzureBase, at: &At, name: String) -> Result<String, Gone> {
        let is_prefixed = self.model.model.value.starts_with("azure/");
        let written = self.model.azure_deployment.as_ref().map(|name| name.value.clone());
        let explicit = written.or_else(|| is_prefixed.then(|| name.clone())).filter(|name| !name.is_empty());
        match (&read.deployment, explicit) {
            (Some(of_url), Some(explicit)) if *of_url != explicit => {
                let message = format!("the URL names the deployment `{of_url}`, the entry `{explicit}`");
                self.context.error("BW406", at, message, Some(format!("write `{}`", url::show(&read.base))));
                Err(Gone::Broken)
            }
            (_, Some(explicit)) => Ok(explicit),
            (Some(of_url), None) => Ok(of_url.clone()),
            (None, None) if is_prefixed => {
                // LiteLLM's way to reach what had no deployment in old API versions.
                let message = format!("`azure/` names no deployment: `{}` is left out", self.model.model_name.value);
                self.context.warning(
                    "BW403",
                    &self.model.model.at,
                    message,
                    Some("write `azure/<deployment>`".to_owned()),
                );
                Err(Gone::LeftOut)
            }
            (None, None) if name.is_empty() => {
                self.context.error("BW403", &self.model.at, "an Azure backend needs `azure_deployment`", None);
                Err(Gone::Broken)
            }
            (None, None) => Ok(name),
        }
    }

    fn azure_version(&self, read: &AzureBase) -> Provider {
        let is_v1_word = |version: &str| matches!(version.to_ascii_lowercase().as_str(), "v1" | "latest" | "preview");
        if let Some(version) = self.api_version.filter(|version| !is_v1_word(&version.value))
            && read.is_v1
        {
            let message = "the URL is of the v1 API, which has no version: `api_version` is dropped";
            self.context.warning("BW408", &version.at, message, None);
        }
        if read.is_v1 || self.api_version.is_some_and(|version| is_v1_word(&version.value)) {
            return Provider::AzureV1;
        }
        let written =
            self.api_version.map(|version| version.value.trim().to_owned()).or_else(|| read.api_version.clone());
        let version = written.or_else(|| Some(self.environment(&AZURE_VERSIONS)?.1)).unwrap_or_else(|| {
            let message = format!("no `api_version`: {DEFAULT_API_VERSION} is used");
            self.context.warning("BW408", &self.model.at, message, Some("name the version you have tested".to_owned()));
            DEFAULT_API_VERSION.to_owned()
        });
        match is_v1_word(&version) {
            true => Provider::AzureV1,
            false => Provider::AzureDated { api_version: version },
        }
    }

    fn azure_credential(&self, may_use_environment: bool) -> (Option<Credential>, String) {
        let is_token = self.model.api_type.as_ref().is_some_and(|kind| kind.value == ApiType::AzureAd);
        if let Some(token) = &self.model.azure_ad_token {
            if let Some(key) = self.api_key {
                let message = "`api_key` and `azure_ad_token` are both set: the token is used";
                self.context.warning("BW207", &key.at, message, None);
            }
            return (Some(Credential::Bearer(token.value.key.clone())), token.value.reference.clone());
        }
        if let Some(key) = self.api_key {
            let secret = key.value.key.clone();
            let credential = if is_token { Credential::Bearer(secret) } else { Credential::ApiKeyHeader(secret) };
            if let Some(at) = self.model.entra.at() {
                self.context.warning(
                    "BW207",
                    at,
                    "`api_key` and an Entra identity are both set: the key is used",
                    None,
                );
            }
            return (Some(credential), key.value.reference.clone());
        }
        if self.model.entra.is_written() {
            return self.entra(may_use_environment);
        }
        if !may_use_environment {
            return (None, "none".to_owned());
        }
        if let Some((name, key)) = self.environment(&AZURE_KEYS).filter(|_| !is_token) {
            return (Some(Credential::ApiKeyHeader(self.hidden_key(&key))), format!("env:{name}"));
        }
        match self.environment(&AZURE_TOKENS) {
            Some((name, token)) => (Some(Credential::Bearer(self.hidden_key(&token))), format!("env:{name}")),
            None => self.entra(may_use_environment),
        }
    }

    fn entra(&self, may_use_environment: bool) -> (Option<Credential>, String) {
        let Some(identity) = entra::resolve(self.context, &self.model.entra, may_use_environment) else {
            return (None, "none".to_owned());
        };
        // The secret may be renewed under the same name; who is named by it stays the same.
        let reference = format!("entra:{}/{}", identity.tenant, identity.client);
        (Some(Credential::Entra(Arc::new(identity))), reference)
    }

    fn hidden_key(&self, secret: &str) -> ApiKey {
        self.context.hide(secret);
        ApiKey::new(secret)
    }

    fn openai(&self, written: Option<Url>, name: String) -> Result<Endpoint, Gone> {
        let base = self.base(written, &OPENAI_BASES)?;
        let is_from_environment = base.as_ref().is_some_and(|base| base.is_from_environment);
        let base = self.openai_base(base, Some(OPENAI_BASE), false)?;
        let is_own = base.host == "api.openai.com";
        let may = self.may_use_environment(&base, is_own, is_from_environment, &OPENAI_BASES);
        self.bearer(Provider::OpenAi, base, name, &["OPENAI_API_KEY"], may, is_own)
    }

    fn compatible(
        &self,
        written: Option<Url>,
        name: String,
        known: &'static detect::Compatible,
    ) -> Result<Endpoint, Gone> {
        let base = self.base(written, &[])?;
        // Ollama's own dialect begins at its root, and so does what LiteLLM's users give; OpenAI's stands below.
        let base = self.openai_base(base, known.base, known.name == "ollama")?;
        let own = known.base.and_then(|base| url::parse(base).ok());
        let may = own.is_some_and(|own| own.base.host == base.host && own.base.port == base.port);
        self.bearer(Provider::Compatible(known.name), base, name, &[known.variable], may, false)
    }

    fn generic(&self, written: Option<Url>, name: String) -> Result<Endpoint, Gone> {
        let base = self.base(written, &[])?;
        let base = self.openai_base(base, None, false)?;
        self.bearer(Provider::Compatible("compatible"), base, name, &[], false, false)
    }

    fn openai_base(&self, base: Option<Base>, default: Option<&str>, adds_version: bool) -> Result<BaseUrl, Gone> {
        let Some(base) = base else {
            let Some(url) = default.and_then(|default| url::parse(default).ok()) else {
                self.context.error("BW403", &self.model.at, "this provider needs `api_base`", None);
                return Err(Gone::Broken);
            };
            return Ok(url.base);
        };
        let read = url::openai(base.url).map_err(|refusal| self.refuse_url(refusal, &base.at))?;
        if let Some(operation) = read.cut {
            let message = format!("`{operation}` is cut: a base URL ends before the operation");
            self.context.warning("BW406", &base.at, message, Some(format!("write `{}`", url::show(&read.base))));
        }
        if read.is_bare && adds_version {
            let below = url::parse(&format!("{}/v1", url::show(&read.base)));
            return below.map(|url| url.base).map_err(|refusal| self.refuse_url(refusal, &base.at));
        }
        if read.is_bare {
            let help = format!("most servers want `{}/v1`", url::show(&read.base));
            self.context.warning("BW406", &base.at, "the base URL has no path, and none is added", Some(help));
        }
        self.check_plain_http(&read.base, &base.at);
        Ok(read.base)
    }

    fn bearer(
        &self,
        provider: Provider,
        base_url: BaseUrl,
        upstream_model: String,
        variables: &[&'static str],
        may_use_environment: bool,
        is_own: bool,
    ) -> Result<Endpoint, Gone> {
        let (credential, credential_reference) = match self.api_key {
            Some(key) => (Some(Credential::Bearer(key.value.key.clone())), key.value.reference.clone()),
            None => match self.environment(variables).filter(|_| may_use_environment) {
                Some((name, key)) => (Some(Credential::Bearer(self.hidden_key(&key))), format!("env:{name}")),
                None => (None, "none".to_owned()),
            },
        };
        self.check_credential(credential.is_none(), is_own, &base_url);
        Ok(Endpoint { provider, base_url, upstream_model, credential, credential_reference })
    }

    fn check_credential(&self, is_missing: bool, is_own: bool, base: &BaseUrl) {
        // An `api_key` that could not be expanded has been complained about; there is one then, only not here.
        // Blindly nobody knows what the environment would give.
        if !is_missing || self.model.has_broken_key || self.context.is_blind() {
            return;
        }
        let entra = &self.model.entra;
        if entra.at().is_some() {
            // What it lacks has been said.
            return;
        }
        let at = entra.unsupported.as_ref().unwrap_or(&self.model.at);
        let message = format!("no credential for {}: calls go without one", base.authority());
        let help = match entra.unsupported {
            Some(_) => "give `tenant_id`, `client_id` and `client_secret`, `azure_ad_token` or `api_key`",
            None => "give `api_key`",
        };
        let help = help.to_owned();
        match is_own || entra.unsupported.is_some() {
            true => self.context.error("BW407", at, format!("no credential for {}", base.authority()), Some(help)),
            false => self.context.warning("BW407", at, message, Some(help)),
        }
    }

    fn check_plain_http(&self, base: &BaseUrl, at: &At) {
        if !base.tls && !url::is_private_host(&base.host) {
            let message =
                format!("{} is called without TLS: the key and all prompts can be read on the way", base.host);
            self.context.warning("BW405", at, message, Some("write https://".to_owned()));
        }
    }
}
