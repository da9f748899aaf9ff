//! Said twice means tested: every file in `config/` and every YAML block of the README is a configuration that loads.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The guide's backends, for blocks that show only a part.
const GUIDE: &str = include_str!("../../src/config/tests/seed/block_1.yaml");

/// Every variable that a text names, as `${NAME}`, `${NAME:-…}` or `os.environ/NAME`.
fn variables(text: &str) -> Vec<String> {
    let name = |rest: &str| -> String {
        rest.chars().take_while(|character| character.is_ascii_alphanumeric() || *character == '_').collect()
    };
    let marks = ["${", "os.environ/"];
    marks.iter().flat_map(|mark| text.split(mark).skip(1).map(name)).filter(|name| !name.is_empty()).collect()
}

/// A value that fits the variable's name, and is no other's.
fn value(name: &str) -> String {
    match name {
        name if name.contains("VERSION") => "2024-10-21".to_owned(),
        name if name.ends_with("ENDPOINT") || name.ends_with("BASE") || name.ends_with("URL") => {
            format!("https://{}.openai.azure.com/", name.to_ascii_lowercase().replace('_', "-"))
        }
        _ => format!("a-dummy-value-of-{name}"),
    }
}

/// Runs `breakwater check` on a file: it must be valid.
fn check(file: &Path, name: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    let environment = variables(&text).into_iter().map(|name| {
        let value = value(&name);
        (name, value)
    });
    let checked = Command::new(env!("CARGO_BIN_EXE_breakwater"))
        .args(["check", "-c"])
        .arg(file)
        .env_clear()
        .envs(environment)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{name}: {said}");
    assert!(checked.stdout.starts_with(b"valid ("), "{name}: {said}");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_shipped_configuration_loads() {
    let files = std::fs::read_dir(root().join("config")).unwrap().map(|entry| entry.unwrap().path());
    let mut yaml: Vec<PathBuf> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"))
        .collect();
    yaml.sort();
    assert!(yaml.iter().any(|file| file.ends_with("demo.yaml")), "{yaml:?}");
    for file in yaml {
        check(&file, &file.display().to_string());
    }
}

#[test]
fn every_block_of_the_readme_loads() {
    let Ok(readme) = std::fs::read_to_string(root().join("README.md")) else { return };
    // The files that a block names.
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tls");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("chain.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    for (number, block) in readme.split("```yaml\n").skip(1).enumerate() {
        let block = block.split("```").next().unwrap_or_default();
        let (models, router) = GUIDE.split_once("router:").unwrap();
        let whole = match (block.contains("model_list:"), block.contains("router:")) {
            (true, _) => block.to_owned(),
            (false, true) => format!("{models}{block}"),
            (false, false) => format!("{models}router:{router}\n{block}"),
        };
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{number}.yaml"));
        std::fs::write(&file, whole).unwrap();
        check(&file, &format!("YAML block {} of README.md", number + 1));
    }
}

#[test]
fn a_file_that_is_wrong_is_refused() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong.yaml");
    std::fs::write(&file, "model_list:\n  - model_name: a\nruoter: []\n").unwrap();
    let checked =
        Command::new(env!("CARGO_BIN_EXE_breakwater")).args(["check", "-c"]).arg(&file).env_clear().output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("wrong.yaml:2:") && said.contains("wrong.yaml:3:1"), "every problem with its place: {said}");
}
