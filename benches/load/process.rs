//! A process beside this one: pinned to a core, read from /proc, killed whatever happens.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

/// Ticks a second in /proc/PID/stat: fixed by the kernel's interface on the architectures we build for.
const TICKS_PER_SECOND: u64 = 100;

/// Longest wait for a process to listen: that of an interpreter that reads a thousand files first.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Who was asked to end has this long.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Between two looks whether it listens: starts are measured too.
const START_POLL: Duration = Duration::from_millis(1);

/// Most of a process's last words that are repeated, in bytes.
const LAST_WORDS: usize = 2_000;

/// Core of the contestants.
const CONTESTANT_CORE: &str = "0";

/// Cores of those that have more than one thread to do.
const ANY_CORE: &str = "0,1";

/// Core of this process, which its children inherit.
const LOAD_CORE: &str = "1";

/// The gateway's program: the one built with this bench, without the release's profile, or another that the variable names.
pub(crate) fn gateway() -> OsString {
    let other = std::env::var_os("BREAKWATER_BIN");
    // Contestants run in a folder of their own.
    let other = other.map(|path| std::path::absolute(&path).map_or(path, PathBuf::into_os_string));
    other.unwrap_or_else(|| env!("CARGO_BIN_EXE_breakwater").into())
}

/// What puts processes where they belong.
pub(crate) struct Pinning {
    taskset: Option<PathBuf>,
    /// Lets the kernel kill children even if this process is killed itself.
    setpriv: Option<PathBuf>,
}

impl Pinning {
    /// Finds the tools and moves this process to the load's core. Must run before other threads start.
    pub(crate) fn find() -> Self {
        let taskset = find_tool("taskset").filter(|taskset| {
            let runs_there = |core| run_quietly(taskset, &["-c", core, "true"]);
            let own = std::process::id().to_string();
            runs_there(CONTESTANT_CORE) && runs_there(LOAD_CORE) && run_quietly(taskset, &["-c", "-p", LOAD_CORE, &own])
        });
        let setpriv =
            find_tool("setpriv").filter(|setpriv| run_quietly(setpriv, &["--pdeathsig", "KILL", "--", "true"]));
        Self { taskset, setpriv }
    }

    /// Whether contestants have a core of their own.
    pub(crate) fn is_pinned(&self) -> bool {
        self.taskset.is_some()
    }

    fn command(&self, program: &OsStr, core: Core) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(setpriv) = &self.setpriv {
            words.extend([setpriv.into(), "--pdeathsig".into(), "KILL".into(), "--".into()]);
        }
        let cores = match core {
            Core::Contestant => Some(CONTESTANT_CORE),
            Core::Any => Some(ANY_CORE),
            Core::Load => None,
        };
        if let (Some(taskset), Some(cores)) = (&self.taskset, cores) {
            words.extend([taskset.into(), "-c".into(), cores.into()]);
        }
        words.push(program.into());
        // Each of them becomes the next by exec: the process id stays the same.
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

/// Where a process runs.
#[derive(Clone, Copy)]
pub(crate) enum Core {
    /// On its own.
    Contestant,
    /// With this process.
    Load,
    /// Wherever there is room.
    Any,
}

/// Looks for a program as a shell would, and where servers are installed.
pub(crate) fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn run_quietly(program: &Path, words: &[&str]) -> bool {
    let command = &mut Command::new(program);
    let status = command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A running process. Dropped, it is killed.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    errors: PathBuf,
}

impl Process {
    /// Starts a process and waits until it takes connections. Its standard error goes to a file in `folder`.
    ///
    /// # Errors
    /// Why it did not start, with its last words.
    pub(crate) async fn start(
        name: &'static str,
        (pinning, core): (&Pinning, Core),
        program: &OsStr,
        words: &[OsString],
        (folder, address): (&Path, SocketAddr),
    ) -> Result<Self, String> {
        let errors = folder.join(format!("{name}.err"));
        let failed = |error: std::io::Error| format!("{name} could not be started: {error}");
        let mut command = pinning.command(program, core);
        command.args(words).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&errors).map_err(failed)?);
        let mut process = Self { name, child: command.spawn().map_err(failed)?, errors };
        let listening = tokio::time::timeout(START_LIMIT, process.wait_until_it_listens(address)).await;
        listening.unwrap_or_else(|_| Err(process.epitaph("does not listen")))?;
        Ok(process)
    }

    async fn wait_until_it_listens(&mut self, address: SocketAddr) -> Result<(), String> {
        while TcpStream::connect(address).await.is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.epitaph(&format!("ended with {status}")));
            }
            tokio::time::sleep(START_POLL).await;
        }
        Ok(())
    }

    fn epitaph(&self, what: &str) -> String {
        let said = std::fs::read(&self.errors).unwrap_or_default();
        let last = &said[said.len().saturating_sub(LAST_WORDS)..];
        format!("{} {what}\n{}", self.name, String::from_utf8_lossy(last).trim_end())
    }

    /// User and system time so far; none where /proc does not say. By the scheduler's own count of its threads, which knows
    /// nanoseconds, else by ticks.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.scheduled().or_else(|| self.ticked())
    }

    fn scheduled(&self) -> Option<Duration> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
            let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        let times: Option<Vec<u64>> = threads.map(of_thread).collect();
        times.map(|times| Duration::from_nanos(times.iter().sum()))
    }

    fn ticked(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // The name in brackets may hold blanks: fields are counted behind it, the state being the third.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index - 3)?.parse::<u64>().ok();
        Some(Duration::from_millis((ticks(14)? + ticks(15)?) * (1_000 / TICKS_PER_SECOND)))
    }

    /// Open descriptors; none where /proc does not say.
    pub(crate) fn descriptors(&self) -> Option<u64> {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).ok().map(|folder| folder.count() as u64)
    }

    /// Resident memory in bytes; none where /proc does not say.
    pub(crate) fn resident(&self) -> Option<u64> {
        self.memory("VmRSS:")
    }

    /// The most that was resident since the start, or since it was forgotten.
    pub(crate) fn peak(&self) -> Option<u64> {
        self.memory("VmHWM:")
    }

    /// Forgets what was resident so far (proc(5), `clear_refs`).
    pub(crate) fn forget_peak(&self) {
        // Where the kernel does not let us, the peak is that of the whole run: no less than the true one.
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }

    fn memory(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
    }
}

impl Drop for Process {
    #[expect(clippy::disallowed_methods, reason = "a destructor cannot await")]
    fn drop(&mut self) {
        // Asked first: it may have something to write down, such as a profile.
        let _ = Command::new("kill").arg(self.child.id().to_string()).stderr(Stdio::null()).status();
        for _ in 0..END_LIMIT.as_millis() / START_POLL.as_millis() {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(START_POLL);
        }
        // Gone already: fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
