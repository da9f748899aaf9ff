//! An application's identity in Entra ID, with which Azure backends get their tokens (spec/wire.md 2.2).

use super::context::{At, Context, Located};
use super::raw::Entra;
use super::{ApiKey, BaseUrl, url};

/// Where tokens come from, unless `azure_authority_host` or AZURE_AUTHORITY_HOST says otherwise (sovereign clouds).
const AUTHORITY: &str = "https://login.microsoftonline.com";

/// What a token is for, unless `azure_scope` says otherwise: Azure OpenAI's data plane.
const SCOPE: &str = "https://cognitiveservices.azure.com/.default";

const VARIABLES: [&str; 3] = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"];

/// An application that gets tokens by the client-credentials flow (RFC 6749 4.4). Two that are equal share their tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct EntraIdentity {
    /// The directory, by id or by domain.
    pub tenant: String,
    /// The application's id.
    pub client: String,
    /// The application's secret.
    pub secret: ApiKey,
    /// What names the secret without being it, as `credential_reference`.
    pub secret_reference: String,
    /// What the token is for.
    pub scope: String,
    /// Who is asked for it.
    pub authority: BaseUrl,
}

/// The identity that an entry and the environment name together; none if they name none, or not a whole one, which has been
/// said.
pub(super) fn resolve(context: &Context<'_>, written: &Entra, may_use_environment: bool) -> Option<EntraIdentity> {
    if !written.is_written() && !may_use_environment {
        return None;
    }
    let variable = |name: &str| context.variable(name).filter(|value| !value.is_empty());
    let [tenant_name, client_name, secret_name] = VARIABLES;
    let text = |written: &Option<Located<String>>, name| {
        written.as_ref().map(|text| text.value.clone()).filter(|text| !text.is_empty()).or_else(|| variable(name))
    };
    let tenant = text(&written.tenant_id, tenant_name);
    let client = text(&written.client_id, client_name);
    let secret = match &written.client_secret {
        Some(secret) => Some((secret.value.key.clone(), secret.value.reference.clone())),
        None => variable(secret_name).map(|secret| {
            context.hide(&secret);
            (ApiKey::new(secret), format!("env:{secret_name}"))
        }),
    };
    let (Some(tenant), Some(client), Some((secret, secret_reference))) = (&tenant, &client, &secret) else {
        // Of the environment alone nobody has said that it means this.
        if let Some(at) = written.at().filter(|_| !written.is_broken && !context.is_blind()) {
            let is_missing = [tenant.is_none(), client.is_none(), secret.is_none()];
            let parts = ["tenant_id", "client_id", "client_secret"].into_iter().zip(VARIABLES).zip(is_missing);
            let missing: Vec<String> = parts
                .filter(|(_, is_missing)| *is_missing)
                .map(|((key, variable), _)| format!("`{key}` (or {variable})"))
                .collect();
            let message = format!("an Entra identity without {}", missing.join(" and "));
            context.error("BW407", at, message, Some("give all three, or `api_key`".to_owned()));
        }
        return None;
    };
    let scope = written.scope.as_ref().map(|scope| scope.value.clone()).or_else(|| variable("AZURE_SCOPE"));
    Some(EntraIdentity {
        tenant: tenant.clone(),
        client: client.clone(),
        secret: secret.clone(),
        secret_reference: secret_reference.clone(),
        scope: scope.unwrap_or_else(|| SCOPE.to_owned()),
        authority: authority(context, written)?,
    })
}

fn authority(context: &Context<'_>, written: &Entra) -> Option<BaseUrl> {
    let from_environment = || context.variable("AZURE_AUTHORITY_HOST").filter(|value| !value.is_empty());
    let named = written.authority.as_ref().map(|authority| authority.value.clone()).or_else(from_environment);
    let text = named.unwrap_or_else(|| AUTHORITY.to_owned());
    // Azure's own SDKs take a bare host too.
    let text = if text.contains("://") { text } else { format!("https://{text}") };
    let place = || written.authority.as_ref().map(|authority| &authority.at).or_else(|| written.at());
    match url::parse(&text) {
        Ok(url) if url.base.tls || url::is_private_host(&url.base.host) => Some(url.base),
        Ok(url) => {
            let message = format!("the client secret would go to {} without TLS", url.base.host);
            say(context, place(), message, "write https://");
            None
        }
        Err(refusal) => {
            say(context, place(), refusal.message, "name the authority as `https://login.microsoftonline.com`");
            None
        }
    }
}

fn say(context: &Context<'_>, at: Option<&At>, message: String, help: &str) {
    if let Some(at) = at {
        context.error("BW404", at, message, Some(help.to_owned()));
    }
}
