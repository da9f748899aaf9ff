//! The built binary as a child process: its configuration, its environment, its two logs, its signals, its end.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use breakwater::clock;
use serde_json::Value;

use super::{Answer, Ask, Client, PATIENCE, Scrape, wait_for};

/// Lines of each log that a failed test shows.
const SHOWN_LINES: usize = 20;

/// What a gateway is started with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    yaml: String,
    environment: Vec<(String, String)>,
    workers: u32,
    /// Files beside the configuration.
    files: Vec<(String, String)>,
    /// The operators' listener on a free port, or wherever the configuration has it.
    free_admin_port: bool,
}

impl Setup {
    /// This configuration, no environment, two workers.
    pub(crate) fn new(yaml: impl Into<String>) -> Self {
        Self { yaml: yaml.into(), environment: Vec::new(), workers: 2, files: Vec::new(), free_admin_port: true }
    }

    /// One more file beside the configuration.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// One more variable.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// So many workers.
    pub(crate) fn workers(self, workers: u32) -> Self {
        Self { workers, ..self }
    }

    /// With the operators' listener where the configuration has it.
    pub(crate) fn admin_as_configured(self) -> Self {
        Self { free_admin_port: false, ..self }
    }

    /// Starts it and waits until it serves.
    pub(crate) fn start(self) -> Gateway {
        let mut gateway = self.launch();
        let listening = gateway.wait_event("listening");
        gateway.address = listening["address"].as_str().and_then(|text| text.parse().ok()).expect("an address");
        gateway
    }

    /// Starts it and waits for nothing: it may end by itself.
    pub(crate) fn launch(self) -> Gateway {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("gateway-{}-{number}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.yaml");
        std::fs::write(&file, &self.yaml).unwrap();
        for (name, text) in &self.files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let admin: &[&str] = if self.free_admin_port { &["--admin-port", "0"] } else { &[] };
        let mut child = Command::new(env!("CARGO_BIN_EXE_breakwater"))
            .arg("--config")
            .arg(&file)
            .args(["--host", "127.0.0.1", "--port", "0", "--workers", &self.workers.to_string()])
            .args(admin)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = Lines::collect(child.stdout.take().expect("piped"));
        let err = Lines::collect(child.stderr.take().expect("piped"));
        Gateway { child, address: ([127, 0, 0, 1], 0).into(), out, err, file, ended: None }
    }
}

/// A running gateway; killed when it is dropped.
pub(crate) struct Gateway {
    child: Child,
    address: SocketAddr,
    out: Lines,
    err: Lines,
    file: PathBuf,
    ended: Option<ExitStatus>,
}

impl Gateway {
    /// Saves another configuration over the one it was started with, as an editor does: beside it, then renamed over it.
    pub(crate) fn save(&self, yaml: &str) {
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, yaml).unwrap();
        std::fs::rename(&beside, &self.file).unwrap();
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// The file of its configuration, alone in its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.file
    }

    /// Starts with one configuration and nothing else set.
    pub(crate) fn start(yaml: impl Into<String>) -> Self {
        Setup::new(yaml).start()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for operators.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        let listening = self.wait_event("admin listening");
        listening["address"].as_str().and_then(|text| text.parse().ok()).expect("an address")
    }

    /// One request to the operators' listener.
    pub(crate) fn operate(&self, ask: &Ask) -> Answer {
        Client::connect(self.admin_address()).unwrap().ask(ask)
    }

    /// What it knows of how long a backend's calls take.
    pub(crate) fn latency(&self, backend: &str) -> Value {
        let status = self.operate(&Ask::get("/admin/status")).json();
        let backends = status["backends"].as_array().expect("a list");
        let known = backends.iter().find(|known| known["name"] == backend);
        known.unwrap_or_else(|| panic!("{backend} in {status}"))["latency"].clone()
    }

    /// Waits until it knows the latency of so many calls to a backend, by the field that counts them.
    pub(crate) fn wait_samples(&self, backend: &str, field: &str, count: u64) -> Value {
        wait_for("the latency figures", || {
            Some(self.latency(backend)).filter(|known| known[field].as_u64().is_some_and(|samples| count <= samples))
        })
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address).unwrap()
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, ask: &Ask) -> Answer {
        self.connect().ask(ask)
    }

    /// Everything on standard output so far.
    pub(crate) fn stdout(&self) -> Vec<String> {
        self.out.all()
    }

    /// What has come on standard output since it was last taken: for runs whose lines no memory holds.
    pub(crate) fn take_stdout(&self) -> Vec<String> {
        std::mem::take(&mut self.out.lock().lines)
    }

    /// Everything on standard error so far.
    pub(crate) fn stderr(&self) -> Vec<String> {
        self.err.all()
    }

    /// Waits until the access log has so many lines, and gives all it has.
    pub(crate) fn wait_lines(&self, count: usize) -> Vec<Value> {
        let lines = self.out.wait("an access-log line", |lines| (count <= lines.len()).then(|| lines.to_vec()));
        lines.iter().map(|line| serde_json::from_str(line).expect("a line is one JSON object")).collect()
    }

    /// Waits for an event by its message.
    pub(crate) fn wait_event(&self, message: &str) -> Value {
        self.wait_event_where(message, |_| true)
    }

    /// Waits for an event by its message and its fields.
    pub(crate) fn wait_event_where(&self, message: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.err.wait(message, |lines| events(lines).find(|event| event["message"] == message && fits(event)))
    }

    /// The events so far by that message.
    pub(crate) fn events(&self, message: &str) -> Vec<Value> {
        events(&self.err.all()).filter(|event| event["message"] == message).collect()
    }

    /// Its metrics now.
    pub(crate) fn scrape(&self) -> Scrape {
        let answer = self.ask(&Ask::get("/metrics"));
        assert_eq!(answer.status(), 200, "{answer:?}");
        Scrape::parse(&answer.text())
    }

    /// Its metrics as soon as they fit.
    pub(crate) fn wait_scrape(&self, what: &str, fits: impl Fn(&Scrape) -> bool) -> Scrape {
        wait_for(what, || Some(self.scrape()).filter(|scrape| fits(scrape)))
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.process())]).status().unwrap();
        assert!(kill.success(), "kill -{name}");
    }

    /// Waits for its end.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let status = wait_for("the gateway's end", || self.child.try_wait().unwrap());
        // Its last words may still stand in the pipes.
        [&self.out, &self.err].iter().for_each(|pipe| pipe.wait_over());
        self.ended = Some(status);
        status
    }
}

fn events(lines: &[String]) -> impl Iterator<Item = Value> {
    // What is said before the log begins is for people.
    lines.iter().filter_map(|line| serde_json::from_str(line).ok())
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if let Some(folder) = self.file.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
        if std::thread::panicking() {
            let (err, out) = (self.err.last(SHOWN_LINES), self.out.last(SHOWN_LINES));
            eprintln!("--- the gateway's standard error\n{err}\n--- and output\n{out}");
        }
    }
}

/// Lines of a pipe as they come.
#[derive(Clone)]
struct Lines(Arc<(Mutex<Pipe>, Condvar)>);

/// What a pipe has brought.
#[derive(Default)]
struct Pipe {
    lines: Vec<String>,
    is_over: bool,
}

impl Lines {
    fn collect(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                kept.lock().lines.push(line);
                kept.0.1.notify_all();
            }
            kept.lock().is_over = true;
            kept.0.1.notify_all();
        });
        lines
    }

    /// A test that failed while it held the lock still shows what there is.
    fn lock(&self) -> MutexGuard<'_, Pipe> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    fn last(&self, count: usize) -> String {
        let lines = self.all();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    fn wait_over(&self) {
        let until = clock::now().plus(PATIENCE);
        let mut pipe = self.lock();
        while !pipe.is_over {
            let left = until.since(clock::now());
            assert!(!left.is_zero(), "the pipe is still open");
            pipe = self.0.1.wait_timeout(pipe, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wait<T>(&self, what: &str, mut found: impl FnMut(&[String]) -> Option<T>) -> T {
        let until = clock::now().plus(PATIENCE);
        let mut pipe = self.lock();
        loop {
            if let Some(it) = found(&pipe.lines) {
                return it;
            }
            let left = until.since(clock::now());
            assert!(!pipe.is_over && !left.is_zero(), "{what} did not come; over: {}", pipe.is_over);
            pipe = self.0.1.wait_timeout(pipe, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
