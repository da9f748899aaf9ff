//! A listening port that can be closed and opened again without losing it.
//!
//! While closed, the port stays bound by a socket that does not listen: connecting clients are refused, and nobody else can
//! take the port. Opening and closing happen at once, so that a rule that refuses is true when the call that set it returns.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use super::backend::lock;

/// Connections that wait to be accepted: load tests open hundreds at once.
const BACKLOG: i32 = 1024;

/// The port of a virtual backend.
pub(super) struct Door {
    address: SocketAddr,
    state: Mutex<State>,
    /// The accept loop's: a listener that is dropped forgets it.
    waker: Mutex<Option<Waker>>,
    /// The runtime whose reactor watches the listener.
    runtime: Handle,
}

enum State {
    Open(TcpListener),
    /// Refusing, with the socket that holds the port.
    Closed(Option<Socket>),
}

impl Door {
    /// Opens a port; 0 takes a free one.
    pub(super) fn open_at(address: SocketAddr) -> io::Result<Self> {
        let listener = listen(bind(address)?)?;
        let address = listener.local_addr()?;
        Ok(Self {
            address,
            state: Mutex::new(State::Open(listener)),
            waker: Mutex::new(None),
            runtime: Handle::current(),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts the next connection; waits while closed.
    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        // Before the look at the state, so that an opening in between wakes.
        *lock(&self.waker) = Some(cx.waker().clone());
        match &*lock(&self.state) {
            State::Open(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| stream),
            State::Closed(_) => Poll::Pending,
        }
    }

    /// Refuses from now on. Connections that wait to be accepted are reset.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        if let State::Open(_) = *state {
            // First the listener goes, then the port is held again: it cannot be bound twice while one listens.
            *state = State::Closed(None);
            *state = State::Closed(bind(self.address).ok());
        }
    }

    /// Listens again.
    pub(super) fn open(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        let State::Closed(held) = &mut *state else { return Ok(()) };
        let socket = match held.take() {
            Some(socket) => socket,
            None => bind(self.address)?,
        };
        let _entered = self.runtime.enter();
        *state = State::Open(listen(socket)?);
        drop(state);
        lock(&self.waker).take().into_iter().for_each(Waker::wake);
        Ok(())
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier listener may still be ending.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
