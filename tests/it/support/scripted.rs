//! A provider that sends exactly the bytes it was given: where a story must know every one of them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A listener that answers each request of each connection with the next of its answers, the last one for ever.
pub(crate) struct Scripted {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// Starts one. Its threads end with their connections; the listener's with the process.
    pub(crate) fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let targets = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&targets);
        std::thread::spawn(move || {
            let answers = Arc::new(answers);
            for stream in listener.incoming().map_while(Result::ok) {
                let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &answers, &seen));
            }
        });
        Self { address, targets }
    }

    /// A configuration with each as a backend of its name, and the route `r` that tries them in their order. `more` follows it.
    pub(crate) fn yaml_of(all: &[(&str, &Self)], more: &str) -> String {
        let mut yaml = "model_list:\n".to_owned();
        for (name, Self { address, .. }) in all {
            yaml.push_str(&format!(
                "  - model_name: {name}\n    litellm_params: {{model: m, api_key: k, api_type: openai, \
                 api_base: \"http://{address}/v1\"}}\n"
            ));
        }
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        format!("{yaml}router:\n{}{more}", super::route("r", &names, ""))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The targets it was asked for, in order.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }

    /// A configuration with it as the one backend of the route `r`.
    pub(crate) fn yaml(&self, more: &str) -> String {
        let address = self.address;
        format!(
            "model_list:\n  - model_name: r\n    litellm_params: {{model: m, api_key: k, api_type: openai, \
             api_base: \"http://{address}/v1\"}}\n{more}"
        )
    }

    /// The number of requests it has answered.
    pub(crate) fn calls(&self) -> usize {
        self.targets.lock().unwrap().len()
    }
}

/// A whole answer with a length.
pub(crate) fn with_length(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// An error as OpenAI writes it for an object that it does not have.
pub(crate) fn missing() -> Vec<u8> {
    let body = r#"{"error":{"message":"No such object","type":"invalid_request_error","param":"id","code":null}}"#;
    let head = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length";
    format!("{head}: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// An event stream in chunks of so many bytes each.
pub(crate) fn in_chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn serve(mut stream: TcpStream, answers: &[Vec<u8>], seen: &Mutex<Vec<String>>) {
    let mut buffer = Vec::new();
    while let Some(target) = read_request(&mut stream, &mut buffer) {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(target);
            seen.len() - 1
        };
        let answer = &answers[number.min(answers.len() - 1)];
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

/// Reads a request with its body; gives its target. None at the connection's end.
fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let whole = end + 4 + length.unwrap_or(0);
            if whole <= buffer.len() {
                buffer.drain(..whole);
                return head.split(' ').nth(1).map(str::to_owned);
            }
        }
        let mut bytes = [0; 16 << 10];
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return None,
            Ok(read) => buffer.extend_from_slice(&bytes[..read]),
        }
    }
}
