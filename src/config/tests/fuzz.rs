//! Files that nobody would write, made of files that somebody did: the loader says what is wrong with each of them, and neither
//! panics nor shows a secret. What eats time or memory on purpose is refused.

use super::*;

/// Damaged files of the short form, and of the long one (some minutes).
const SHORT: u64 = 1_500;
const LONG: u64 = 300_000;

/// What the damage is made of.
const CORPUS: [&str; 11] = [
    include_str!("../../../config/reference.yaml"),
    include_str!("../../../config/gateway.yaml"),
    include_str!("../../../config/multi-region.yaml"),
    include_str!("../../../config/load-balance.yaml"),
    include_str!("../../../config/environments.yaml"),
    include_str!("../../../config/litellm-compatible.yaml"),
    include_str!("../../../config/demo.yaml"),
    include_str!("seed/block_1.yaml"),
    include_str!("seed/block_6.yaml"),
    include_str!("seed/block_8.yaml"),
    "x-a: &a {api_key: \"${OPENAI_API_KEY}\", model: m}\nmodel_list: [{model_name: a, litellm_params: {<<: *a, api_base: 'http://h/v1'}}]\n",
];

/// What is thrown in.
const SCRAPS: [&str; 44] = [
    "&a ",
    "*a",
    "<<: *a\n",
    "!tag ",
    "!!binary ",
    "| ",
    ">-\n",
    "---\n",
    "...\n",
    "? ",
    "- ",
    "- - - ",
    ": ",
    ": :",
    "{",
    "}",
    "[",
    "]",
    "{{{{{{{{",
    "[[[[[[[[",
    "\"",
    "'",
    "#",
    "\t",
    "\r\n",
    "\u{feff}",
    "\u{0}",
    "\u{85}",
    "\u{2028}",
    "\u{1f600}",
    "${",
    "${A:-${B:-${C}}}",
    "${file:/etc/passwd}",
    "${OPENAI_API_KEY}",
    "os.environ/OPENAI_API_KEY",
    "$$",
    "~",
    "null",
    "1e999",
    "-0x1",
    ".inf",
    "99999999999999999999",
    "model_list:\n",
    "  ",
];

/// Variables whose values must never be shown.
const SECRETS: [&str; 3] = ["openai-secret", "azure-secret", "a-master-key-that-is-long"];

fn fixture() -> Fixture {
    let known = ["BREAKWATER_MASTER_KEY", "LITELLM_MASTER_KEY", "BATCH_KEY", "GROQ_API_KEY"];
    known.iter().fold(Fixture::seed(), |fixture, name| fixture.with(name, SECRETS[2]))
}

/// Some bytes of one file, damaged a few times.
fn damaged(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut text = random.choice(CORPUS).unwrap_or_default().as_bytes().to_vec();
    for _ in 0..random.usize(1..6) {
        let (at, length) = (random.usize(0..=text.len()), random.usize(0..60));
        let end = (at + length).min(text.len());
        let scrap = random.choice(SCRAPS).unwrap_or_default().as_bytes().to_vec();
        match random.u8(0..9) {
            0 => text.splice(at..at, scrap.repeat(random.usize(1..4))).for_each(drop),
            1 => text.splice(at..end, scrap).for_each(drop),
            2 => text.truncate(at),
            3 => text.drain(at..end).for_each(drop),
            4 => {
                let copy = text[at..end].to_vec();
                let to = random.usize(0..=text.len());
                text.splice(to..to, copy).for_each(drop);
            }
            5 if at < text.len() => text[at] ^= 1 << random.u8(0..8),
            6 => {
                let other = random.choice(CORPUS).unwrap_or_default().as_bytes();
                let from = random.usize(0..other.len());
                let piece = &other[from..(from + 200).min(other.len())];
                text.splice(at..at, piece.iter().copied()).for_each(drop);
            }
            7 => {
                // A whole line once more, deeper.
                let line: Vec<u8> = text[at..].iter().copied().take_while(|byte| *byte != b'\n').collect();
                let deeper = [b"\n".to_vec(), b" ".repeat(random.usize(0..12)), line].concat();
                text.splice(at..at, deeper).for_each(drop);
            }
            _ => text.splice(at..at, scrap).for_each(drop),
        }
    }
    text
}

/// Loads a file and shows all there is to show of it.
fn endure(bytes: Vec<u8>) -> Vec<String> {
    let fixture = Fixture { files: HashMap::from([("c.yaml".to_owned(), bytes)]), ..fixture() };
    match load(Path::new("c.yaml"), &fixture) {
        Ok(loaded) => {
            // A name that is made of a secret is told like any name.
            let changes = diff::changes(&loaded.config, &super::loaded(CORPUS[7]).config, &loaded.config);
            assert!(changes.iter().all(|change| !change.to_string().is_empty()));
            vec![loaded.render(ProblemFormat::Human), format!("{loaded:?}")]
        }
        Err(report) => {
            assert!(!report.problems.is_empty(), "what is refused is explained");
            let formats = [ProblemFormat::Human, ProblemFormat::Short, ProblemFormat::Json, ProblemFormat::Github];
            formats.map(|format| report.render(format)).into()
        }
    }
}

fn fuzz(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let bytes = damaged(&mut fastrand::Rng::with_seed(seed));
        let shown = std::panic::catch_unwind(|| endure(bytes.clone()));
        let text = || String::from_utf8_lossy(&bytes);
        let shown = shown.unwrap_or_else(|_| panic!("seed {seed} panics:\n{}", text()));
        for line in shown {
            let leak = SECRETS.iter().find(|secret| line.contains(*secret));
            assert!(leak.is_none(), "seed {seed} shows {leak:?}:\n{line}\n{}", text());
        }
    }
}

#[test]
fn damaged_files_are_explained() {
    fuzz(0..SHORT);
}

#[test]
#[ignore = "the long form, some minutes"]
fn many_damaged_files_are_explained() {
    fuzz(SHORT..SHORT + LONG);
}

/// Files that are made to be expensive: which, and the code that refuses them.
#[test]
fn what_is_made_to_be_expensive_is_refused() {
    let bomb = |levels: usize, wide: usize| {
        let level = |at: usize| {
            let row = vec![format!("*a{}", at.saturating_sub(1)); wide].join(",");
            if at == 0 { "x-a0: &a0 [x]\n".to_owned() } else { format!("x-a{at}: &a{at} [{row}]\n") }
        };
        (0..levels).map(level).collect::<String>()
    };
    let merges = || {
        let level = |at: usize| match at {
            0 => "x-0: &m0 {k: 1}\n".to_owned(),
            at => format!("x-{at}: &m{at} {{<<: [{}]}}\n", vec![format!("*m{}", at - 1); 50].join(",")),
        };
        (0..50).map(level).collect::<String>()
    };
    let nested = |open: &str, count: usize| format!("x-a: {}", open.repeat(count));
    let indented = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>();
    let rows: [(&str, String, &str); 12] = [
        ("brackets", nested("[", 1 << 20), "BW105"),
        ("braces", nested("{a: ", 1 << 18), "BW105"),
        ("dashes", format!("x-a:\n  {}", "- ".repeat(200)), "BW105"),
        ("indentation", indented, "BW105"),
        ("aliases of aliases", bomb(30, 10), "BW105"),
        ("wide aliases", bomb(3, 2_000), "BW105"),
        ("merges of merges", merges(), ""),
        ("too many nodes", format!("x-a: [{}]", "1,".repeat(250_000)), "BW105"),
        ("too large", format!("x-a: {}", "a".repeat(5 << 20)), "BW105"),
        ("one huge scalar", format!("x-a: {}", "a".repeat(3 << 20)), "BW412"),
        (
            "nested placeholders",
            format!("logging: {{level: \"{}{}\"}}", "${A:-".repeat(5_000), "}".repeat(5_000)),
            "BW30",
        ),
        ("many duplicates", "x-a: 1\n".repeat(50_000), "BW103"),
    ];
    for (name, text, code) in rows {
        let report = fixture().load(&text).err().unwrap_or_else(|| panic!("{name} is taken"));
        assert!(
            report.problems.iter().any(|problem| problem.code.starts_with(code)),
            "{name}: {:?}",
            report.problems.first()
        );
        for format in [ProblemFormat::Human, ProblemFormat::Json] {
            let shown = report.render(format);
            assert!(shown.len() < 1 << 20, "{name}: {} bytes are shown", shown.len());
        }
    }
}
