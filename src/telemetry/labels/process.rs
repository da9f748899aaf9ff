//! Labels of the process itself.

use super::{Label, words};

words! {
    /// What came of a reload (spec/config.md 7).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum ReloadResult {
        /// Changes are in force.
        Applied = "applied",
        /// Other text, same meaning.
        NoEffect = "no_effect",
        /// The same text.
        Unchanged = "unchanged",
        /// The file cannot be used.
        Rejected = "rejected",
    }

    /// Which kind of actor.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum ActorKind {
        /// A backend's.
        Backend = "backend",
        /// A worker's router.
        Router = "router",
        /// The watcher of the file.
        ConfigWatcher = "config_watcher",
    }

    /// Which log.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum LogKind {
        /// The access log.
        Access = "access",
        /// The events.
        Events = "events",
    }

    /// What became of spans.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum SpanResult {
        /// The collector has them.
        Exported = "exported",
        /// It did not take them.
        Failed = "failed",
        /// Too many waited for it.
        Dropped = "dropped",
    }
}
