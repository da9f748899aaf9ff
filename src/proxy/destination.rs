//! Where a call goes: by its model, by what it names that one backend holds, by a header, by the default route
//! (spec/wire.md 1.2, 1.4).

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::HeaderName;

use super::operation::{Group, Operation};
use super::pins::{Owner, Pin, Pins};
use super::wanted::{Wanted, may_use, shown};
use super::{Call, forward};
use crate::clock::Instant;
use crate::config::BackendId;
use crate::error::Fault;
use crate::router::{Plan, Table};

/// Names the backend, as an earlier answer did.
const BACKEND: HeaderName = HeaderName::from_static("x-breakwater-backend");
/// Names the route of a call without a model.
const ROUTE: HeaderName = HeaderName::from_static("x-breakwater-route");

/// Where a call goes.
pub(super) struct Destination {
    /// Its backends.
    pub(super) plan: Plan,
    /// Whether it asks for an object that any of them may hold: who says 404 is passed over.
    pub(super) is_search: bool,
}

/// What is looked at to find it.
pub(super) struct Finder<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) wanted: &'a Wanted,
    pub(super) table: &'a Arc<Table>,
    pub(super) pins: &'a Pins,
    pub(super) now: Instant,
}

impl Finder<'_> {
    /// Finds it.
    ///
    /// # Errors
    /// The model, the object or a header names nothing, or a list is asked for that is not served.
    pub(super) fn find(&self) -> Result<Destination, Fault> {
        let need = self.wanted.need();
        let held = self.held()?;
        if let Some(model) = &self.wanted.model {
            let found = Plan::of(self.table, model, need);
            let mut plan = found.ok_or_else(|| Fault::UnknownModel(self.wanted.shown_model()))?;
            let asked = plan.asked().config.name.as_str();
            if self.call.key.is_some_and(|key| !may_use(key, asked)) {
                return Ok(Destination { plan, is_search: false });
            }
            if let Some(backend) = held
                && !plan.pin(&backend)
            {
                plan = self.to_backend(&backend).unwrap_or(plan);
            }
            return Ok(Destination { plan, is_search: false });
        }
        let operation = &self.call.operation;
        if operation.group == Group::List && !self.table.config.defaults.list_endpoints {
            let why = "lists show every tenant's objects; `defaults.list_endpoints` serves them";
            return Err(Fault::Unsupported(format!("{} {}: {why}", self.call.method, operation.text)));
        }
        if let Some(plan) = held.and_then(|backend| self.to_backend(&backend)) {
            return Ok(Destination { plan, is_search: false });
        }
        if let Some(plan) = self.by_header()? {
            return Ok(plan);
        }
        let config = &self.table.config;
        if operation.group != Group::List {
            if let Some(plan) = config.defaults.default_route.as_ref().and_then(|name| self.on_route(name.as_str())) {
                return Ok(plan);
            }
            if let [only] = config.backends.keys().collect::<Vec<_>>()[..]
                && let Some(plan) = self.to_backend(only)
            {
                return Ok(Destination { plan, is_search: false });
            }
        }
        if operation.group == Group::Model {
            return Err(Fault::MissingModel);
        }
        Err(self.unknown())
    }

    /// The backend that holds what the call names; none where nothing is known of it.
    fn held(&self) -> Result<Option<BackendId>, Fault> {
        let body_ids = self.wanted.object_ids();
        if self.call.operation.group == Group::Model && body_ids.is_empty() && !self.has_id_in_path() {
            return Ok(None);
        }
        let owner = Owner::of(self.call.key);
        let in_path = self.call.operation.segments().rev();
        for id in in_path.chain(body_ids) {
            match self.pins.find(&id, owner, self.now) {
                Pin::Unknown => {}
                Pin::Foreign => return Err(Fault::UnknownResource(shown(&id))),
                Pin::Held(identity) => {
                    let mut backends = self.table.config.backends.values();
                    // One that was removed has taken its objects with it.
                    if let Some(backend) = backends.find(|backend| backend.identity == identity) {
                        return Ok(Some(backend.id.clone()));
                    }
                }
            }
        }
        Ok(None)
    }

    fn has_id_in_path(&self) -> bool {
        self.call.operation.text.starts_with("threads/")
    }

    fn by_header(&self) -> Result<Option<Destination>, Fault> {
        let unknown = |code, name: &str| Fault::UnknownHeader { code, name: shown(name) };
        let backend = forward::text(self.call.headers, &BACKEND);
        if !backend.is_empty() {
            let known = self.table.config.backends.keys().find(|known| known.as_str() == backend);
            let plan = known.and_then(|known| self.to_backend(known));
            let plan = plan.ok_or_else(|| unknown("unknown_backend", backend))?;
            return Ok(Some(Destination { plan, is_search: false }));
        }
        let route = forward::text(self.call.headers, &ROUTE);
        if route.is_empty() {
            return Ok(None);
        }
        self.on_route(route).map(Some).ok_or_else(|| unknown("unknown_route", route))
    }

    fn on_route(&self, name: &str) -> Option<Destination> {
        let plan = Plan::of(self.table, name, self.wanted.need())?;
        let is_search = is_search(self.call.method, &self.call.operation);
        Some(Destination { plan, is_search })
    }

    /// A plan of one; none where the client's key may use no route that leads there.
    fn to_backend(&self, backend: &BackendId) -> Option<Plan> {
        let may_use = |route: &str| self.call.key.is_none_or(|key| may_use(key, route));
        let route = self.table.route_to(backend, may_use)?;
        Some(Plan::pinned(self.table, route, backend, self.wanted.need()))
    }

    fn unknown(&self) -> Fault {
        let operation = &self.call.operation;
        let id = operation.object_id().map(|id| shown(&id));
        Fault::UnknownResource(id.unwrap_or_else(|| format!("{} {}", self.call.method, shown(&operation.text))))
    }
}

/// Whether a call asks for one object, and asking several backends for it does no harm.
fn is_search(method: &Method, operation: &Operation) -> bool {
    operation.group == Group::Object && matches!(*method, Method::GET | Method::DELETE)
}
