//! TLS towards providers as it is in force: a reload that changes no root keeps connections and sessions.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use crate::proxy::upstream::tls;

/// The roots in use, with the configurations that trust them.
#[derive(Default)]
pub(super) struct Trust(Vec<Trusted>);

struct Trusted {
    ca_file: Option<String>,
    http2: bool,
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// The configuration that trusts the platform's roots and those of `ca_file`, as the files are now. It is the one of
    /// `earlier`, and so are its connections, where that trusts the same.
    ///
    /// # Errors
    /// As [`tls::roots`].
    pub(super) fn config(
        &mut self,
        ca_file: Option<&str>,
        http2: bool,
        earlier: &Self,
    ) -> Result<Arc<ClientConfig>, String> {
        let known = self.0.iter().find(|known| known.http2 == http2 && known.ca_file.as_deref() == ca_file);
        if let Some(known) = known {
            return Ok(Arc::clone(&known.config));
        }
        let roots = Arc::new(tls::roots(ca_file)?);
        let same = earlier.0.iter().find(|earlier| earlier.http2 == http2 && earlier.roots.roots == roots.roots);
        let (roots, config) = match same {
            Some(same) => (Arc::clone(&same.roots), Arc::clone(&same.config)),
            None => (Arc::clone(&roots), tls::trusting(&roots, http2)?),
        };
        self.0.push(Trusted { ca_file: ca_file.map(str::to_owned), http2, roots, config: Arc::clone(&config) });
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_same_roots_are_one_configuration_from_load_to_load() {
        let path = std::env::temp_dir().join(format!("breakwater-trust-{}.pem", std::process::id()));
        let write = |name: &str| {
            let authority = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            fs::write(&path, authority.cert.pem()).unwrap();
        };
        write("one");
        let file = path.to_str();
        let load = |earlier: &Trust| {
            let mut trust = Trust::default();
            let configs = [(file, false), (file, false), (file, true)]
                .map(|(file, http2)| trust.config(file, http2, earlier).unwrap());
            (trust, configs)
        };
        let is_same = |one: &[Arc<ClientConfig>; 3], other: &[Arc<ClientConfig>; 3]| {
            one.iter().zip(other).map(|(one, other)| Arc::ptr_eq(one, other)).collect::<Vec<_>>()
        };
        let (first, before) = load(&Trust::default());
        assert!(Arc::ptr_eq(&before[0], &before[1]) && !Arc::ptr_eq(&before[0], &before[2]));
        let (second, after) = load(&first);
        assert_eq!(is_same(&before, &after), [true; 3]);
        write("two");
        let (_, changed) = load(&second);
        assert_eq!(is_same(&after, &changed), [false; 3]);
        fs::remove_file(&path).unwrap();
    }
}
