//! The names of a head's fields in their order, and what follows from them alone.
//!
//! A backend's answers mostly have the same names, and of each a dozen fields are asked and a dozen passed on. So a link keeps
//! the names of its last answer, and with them where each of those fields stands and whether a client may see it.

use std::rc::Rc;
use std::sync::LazyLock;

use actix_web::http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, InvalidHeaderName};

use super::super::forward::is_relayed;
use super::super::hint::Field;

/// How many ids there are.
const IDS: usize = 3;

/// Under which names providers tell their own id of an answer: OpenAI, Azure's gateway, Azure.
pub(super) const REQUEST_IDS: [HeaderName; IDS] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("apim-request-id"),
    HeaderName::from_static("x-ms-request-id"),
];

/// How a provider says whether trying again is worth it.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// A field that answers are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What the body is.
    ContentType,
    /// How it is compressed.
    ContentEncoding,
    /// What belongs to the connection.
    Connection,
    /// Whether a failed call is worth another, in the provider's view.
    ShouldRetry,
    /// The provider's own id of it, by its place among the names for it.
    RequestId(usize),
    /// What it says about waiting and about what is left.
    Hint(Field),
}

/// Where those of [`Asked::RequestId`] begin, behind the plain ones.
const IDS_FROM: usize = 4;

/// Where those of [`Asked::Hint`] begin.
const HINTS_FROM: usize = IDS_FROM + IDS;

/// How many there are.
const COUNT: usize = HINTS_FROM + Field::ALL.len();

/// All of them, made once.
static ALL: LazyLock<Vec<HeaderName>> = LazyLock::new(|| {
    let hints = Field::ALL.map(|field| HeaderName::from_static(field.name()));
    [CONTENT_TYPE, CONTENT_ENCODING, CONNECTION, SHOULD_RETRY].into_iter().chain(REQUEST_IDS).chain(hints).collect()
});

impl Asked {
    const fn index(self) -> usize {
        match self {
            Self::ContentType => 0,
            Self::ContentEncoding => 1,
            Self::Connection => 2,
            Self::ShouldRetry => 3,
            Self::RequestId(index) => IDS_FROM + index,
            Self::Hint(field) => HINTS_FROM + field as usize,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static HeaderName {
        &ALL[self.index()]
    }
}

/// The names of one head's fields. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Names(Rc<Known>);

#[derive(Debug)]
struct Known {
    list: Vec<HeaderName>,
    /// Which field is the first of each that is asked for.
    first: [Option<u8>; COUNT],
    /// Whether a client may see each field, unless the connection's own says otherwise.
    relayed: Vec<bool>,
}

impl Names {
    /// Takes names in the order of their fields.
    fn new(list: Vec<HeaderName>) -> Self {
        let place = |index: usize| {
            let name = ALL.get(index)?;
            u8::try_from(list.iter().position(|known| known == name)?).ok()
        };
        let relayed = list.iter().map(|name| is_relayed(name.as_str().as_bytes(), "")).collect();
        Self(Rc::new(Known { first: std::array::from_fn(place), relayed, list }))
    }

    /// Makes them the names of these fields, if they are not.
    ///
    /// # Errors
    /// One that is no name.
    pub(super) fn follow(&mut self, fields: &[httparse::Header<'_>]) -> Result<(), InvalidHeaderName> {
        // Most providers write them in lower case.
        let is_known = |(known, field): (&HeaderName, &httparse::Header<'_>)| {
            known.as_str() == field.name || known.as_str().eq_ignore_ascii_case(field.name)
        };
        if self.0.list.len() != fields.len() || !self.0.list.iter().zip(fields).all(is_known) {
            let names = fields.iter().map(|field| HeaderName::from_bytes(field.name.as_bytes()));
            *self = Self::new(names.collect::<Result<_, _>>()?);
        }
        Ok(())
    }

    /// The names, in order.
    pub(super) fn list(&self) -> &[HeaderName] {
        &self.0.list
    }

    /// Which field is the first of that name.
    pub(super) fn first(&self, asked: Asked) -> Option<usize> {
        self.0.first[asked.index()].map(usize::from)
    }

    /// Whether a client may see each field, in order, as far as its name tells.
    pub(super) fn relayed(&self) -> &[bool] {
        &self.0.relayed
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> Names {
        let fields: Vec<_> = of.iter().map(|name| httparse::Header { name, value: b"" }).collect();
        let mut names = Names::default();
        names.follow(&fields).unwrap();
        names
    }

    #[test]
    fn whatever_is_asked_for_has_its_own_place_and_name() {
        let asked = [Asked::ContentType, Asked::ContentEncoding, Asked::Connection, Asked::ShouldRetry].into_iter();
        let asked = asked.chain((0..REQUEST_IDS.len()).map(Asked::RequestId)).chain(Field::ALL.map(Asked::Hint));
        let places: Vec<usize> = asked.clone().map(Asked::index).collect();
        assert_eq!(places, (0..COUNT).collect::<Vec<_>>());
        for asked in asked {
            let name = asked.name().as_str();
            let found = names(&["x-before", &name.to_ascii_uppercase(), name]);
            assert_eq!(found.first(asked), Some(1), "{name}");
            assert_eq!(names(&["x-before"]).first(asked), None, "{name}");
        }
        assert_eq!(Asked::Hint(Field::Utilization).name(), Field::Utilization.name());
    }

    #[test]
    fn they_are_made_anew_only_for_others() {
        let mut kept = names(&["Server", "X-Own"]);
        let before = Rc::clone(&kept.0);
        let field = |name| httparse::Header { name, value: b"" };
        kept.follow(&[field("server"), field("X-OWN")]).unwrap();
        assert!(Rc::ptr_eq(&before, &kept.0));
        assert_eq!(kept.relayed(), [false, true]);
        kept.follow(&[field("x-own"), field("server")]).unwrap();
        assert_eq!(kept.relayed(), [true, false]);
        kept.follow(&[field("x-own")]).unwrap();
        assert_eq!(kept.list(), ["x-own"]);
        assert!(kept.follow(&[field("x own")]).is_err());
    }
}
