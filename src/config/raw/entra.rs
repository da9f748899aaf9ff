//! The keys of an Entra identity, as they stand beside a backend.

use super::super::context::{At, Located, Secret};
use super::super::litellm_keys::ENTRA;
use super::super::section::Section;

/// What an entry says of an application's identity.
pub(in super::super) struct Entra {
    pub(in super::super) tenant_id: Option<Located<String>>,
    pub(in super::super) client_id: Option<Located<String>>,
    pub(in super::super) client_secret: Option<Located<Secret>>,
    pub(in super::super) scope: Option<Located<String>>,
    pub(in super::super) authority: Option<Located<String>>,
    /// A key of another kind of identity, which nothing is done with.
    pub(in super::super) unsupported: Option<At>,
    /// A value that could not be expanded, which has been said.
    pub(in super::super) is_broken: bool,
}

impl Entra {
    pub(super) fn read(params: &Section<'_>) -> Self {
        let (tenant_id, client_id) = (params.string("tenant_id"), params.string("client_id"));
        let client_secret = params.secret("client_secret");
        let is_broken = |key, is_read: bool| !is_read && params.is_broken(key);
        Self {
            is_broken: is_broken("tenant_id", tenant_id.is_some())
                || is_broken("client_id", client_id.is_some())
                || is_broken("client_secret", client_secret.is_some()),
            tenant_id,
            client_id,
            client_secret,
            scope: params.string("azure_scope"),
            authority: params.string("azure_authority_host"),
            unsupported: ENTRA.into_iter().filter_map(|key| params.key(key)).next(),
        }
    }

    /// Whether the entry names an application, in part at least.
    pub(in super::super) fn is_written(&self) -> bool {
        self.at().is_some() || self.is_broken
    }

    /// Where it does.
    pub(in super::super) fn at(&self) -> Option<&At> {
        let texts = [&self.tenant_id, &self.client_id].into_iter().flatten().map(|text| &text.at);
        texts.chain(self.client_secret.as_ref().map(|secret| &secret.at)).next()
    }
}
