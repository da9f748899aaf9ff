//! What a run holds of the machine: a folder and some ports of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use socket2::{Domain, Socket, Type};

/// A folder that goes with the run.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes one.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("breakwater-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("no folder {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Puts a file into it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.0.join(name);
        std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the system's folder for temporary files is swept by the system.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port of loopback that is bound and not listened on. With `SO_REUSEADDR` on both sides a process of this run may still
/// bind it and listen, while the system gives it to nobody who asks for any free port, and to no outgoing connection.
pub(crate) struct Reserved {
    /// The port.
    pub(crate) address: SocketAddr,
    _socket: Socket,
}

impl Reserved {
    /// Takes one.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn new() -> Result<Self, String> {
        let take = || -> std::io::Result<Self> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
            let address = socket.local_addr()?.as_socket().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
            Ok(Self { address, _socket: socket })
        };
        take().map_err(|error| format!("no free port: {error}"))
    }
}
