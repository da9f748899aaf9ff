use std::fmt::Write as _;

use super::*;

/// Every key and value as `path@line:column`, in order.
fn places(yaml: &str) -> String {
    fn walk(text: &Text, node: &Node, path: &str, out: &mut String) {
        let (line, column) = text.position(node.at.offset);
        let _ = match &node.value {
            Value::Scalar { text, .. } => write!(out, "{path}={text}@{line}:{column} "),
            Value::Null => write!(out, "{path}=~@{line}:{column} "),
            Value::Sequence(_) => write!(out, "{path}=[@{line}:{column} "),
            Value::Mapping(_) => write!(out, "{path}={{@{line}:{column} "),
            Value::Refused => write!(out, "{path}=!@{line}:{column} "),
        };
        match &node.value {
            Value::Sequence(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    walk(text, element, &format!("{path}[{index}]"), out);
                }
            }
            Value::Mapping(entries) => {
                for entry in entries {
                    let (line, column) = text.position(entry.at.offset);
                    let _ = write!(out, "{}:@{line}:{column} ", entry.key);
                    walk(text, &entry.value, &child_path(path, &entry.key), out);
                }
            }
            Value::Null | Value::Scalar { .. } | Value::Refused => {}
        }
    }
    let text = Text::new(yaml.to_owned());
    let parsed = parse(0, &text);
    assert!(parsed.faults.is_empty(), "{}", faults(yaml));
    let mut out = String::new();
    walk(&text, parsed.root.as_ref().unwrap(), "", &mut out);
    out.trim_end().to_owned()
}

/// Every fault as `code line:column path: message`.
fn faults(yaml: &str) -> String {
    let text = Text::new(yaml.to_owned());
    let said: Vec<String> = parse(0, &text)
        .faults
        .iter()
        .map(|fault| {
            let (line, column) = text.position(fault.offset);
            format!("{} {line}:{column} {}: {}", fault.code, fault.path, fault.message)
        })
        .collect();
    said.join("\n")
}

#[test]
fn every_key_and_value_has_its_exact_place() {
    let table = [
        ("a: 1", "={@1:1 a:@1:1 a=1@1:4"),
        ("# c\n\na:\n  bé: 'x y' # z\n", "={@3:1 a:@3:1 a={@4:3 bé:@4:3 a.bé=x y@4:7"),
        (
            "a: [1, [2], {b: c}, []]",
            "={@1:1 a:@1:1 a=[@1:4 a[0]=1@1:5 a[1]=[@1:8 a[1][0]=2@1:9 a[2]={@1:13 b:@1:14 a[2].b=c@1:17 a[3]=[@1:21",
        ),
        (
            "a:\n  - b: 1\n    c: {}\n  - |\n    two\n",
            "={@1:1 a:@1:1 a=[@2:3 a[0]={@2:5 b:@2:5 a[0].b=1@2:8 c:@3:5 a[0].c={@3:8 a[1]=two\n@4:5",
        ),
        ("a:\nb: ~\nc: \"~\"", "={@1:1 a:@1:1 a=~@1:3 b:@2:1 b=~@2:4 c:@3:1 c=~@3:4"),
        ("\"a b\": 4.10\n'x': 2024", "={@1:1 a b:@1:1 [\"a b\"]=4.10@1:8 x:@2:1 x=2024@2:6"),
    ];
    for (yaml, expected) in &table {
        assert_eq!(places(yaml), *expected, "{yaml}");
    }
}

#[test]
fn aliases_and_merges_are_resolved_and_explicit_keys_win() {
    let yaml = "x-base: &base {a: 1, b: 2}\nc:\n  <<: *base\n  b: 3\nd: *base\n";
    let said = places(yaml);
    assert!(
        said.ends_with(
            "c:@2:1 c={@3:3 b:@4:3 c.b=3@4:6 a:@1:16 c.a=1@1:19 d:@5:1 d={@1:9 a:@1:16 d.a=1@1:19 b:@1:22 d.b=2@1:25"
        ),
        "{said}"
    );
    let parsed = parse(0, &Text::new(yaml.to_owned()));
    let Value::Mapping(entries) = &parsed.root.unwrap().value else { panic!() };
    assert_eq!(
        entries[2].value.used_at.map(|at| at.offset),
        Some(yaml.find("*base\n").unwrap() + "*base\n  b: 3\nd: ".len())
    );
    let several = "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b], z: 3}";
    assert!(places(several).ends_with("c.z=3@3:22 x:@1:8 c.x=1@1:11 y:@2:14 c.y=2@2:17"), "{}", places(several));
}

#[test]
fn each_fault_has_code_and_place() {
    let table = [
        (
            "a: 1\nb: 2\na: 3\na: 4",
            "BW103 3:1 a: `a` stands twice; the first is at line 1\nBW103 4:1 a: `a` stands twice; the first is at line 1",
        ),
        ("a: {b: 1, b: 2}", "BW103 1:11 a.b: `b` stands twice; the first is at line 1"),
        ("a: 1\n---\nb: 2", "BW104 2:1 : a second document begins here"),
        ("---\na: 1\n---\n", "BW104 3:1 : a second document begins here"),
        ("", "BW106 1:1 : the file is empty"),
        ("# only\n", "BW106 1:1 : the file is empty"),
        ("~", "BW106 1:1 : the file is empty"),
        ("- a\n", "BW106 1:1 : the file is no mapping"),
        ("just text", "BW106 1:1 : the file is no mapping"),
        ("42", "BW106 1:1 : the file is no mapping"),
        (
            "a: !x 1\nb: !y [1]",
            "BW108 1:4 a: the tag `!x` means nothing here\nBW108 2:4 b: the tag `!y` means nothing here",
        ),
        ("a: {1: x, true: y}", "BW108 1:5 a: the key `1` is no text\nBW108 1:11 a: the key `true` is no text"),
        ("? [a]\n: 1\nb: 2", "BW108 1:3 : a key is text, not a list"),
        ("a: &x 1\n*x : 2", "BW108 2:1 : a key is plain text: no alias"),
        ("a: &x 1\nb: [*x : 2]", "BW108 2:5 b[0]: an alias cannot be a key"),
        ("a: &a [*a]", "BW102 1:8 a[0]: `*a` stands within its own anchor"),
        ("a: *nothing", "BW102 1:4 : this is no YAML: unknown anchor"),
        ("a: 1\nmodel_name: *\n", "BW102 2:14 : this is no YAML"),
        ("a: {k: ${X}}", "BW102 1:9 : this is no YAML"),
        ("a:\n\tb: 1", "BW102 2:1 : this is no YAML"),
        ("a: 1\nb: 2\na: 1\nc: [", "BW103 3:1 a: `a` stands twice; the first is at line 1\nBW102 4:5"),
        ("<<: 3", "BW108 1:5 : `<<` takes a mapping"),
    ];
    for (yaml, expected) in table {
        let said = faults(yaml);
        assert!(said.starts_with(expected), "{yaml}\n  said {said}\n  want {expected}");
    }
}

#[test]
fn syntax_faults_help() {
    let table = [
        ("model_name: *\n", "quoted"),
        ("a: {k: ${X}}", "quote placeholders"),
        ("a:\n\tb: 1", "tabs"),
        ("a:\n  b: 1\n c: 2", "indentation"),
        ("a: b: c", "quote a value"),
    ];
    for (yaml, part) in table {
        let parsed = parse(0, &Text::new(yaml.to_owned()));
        let help = parsed.faults[0].help.clone().unwrap_or_default();
        assert!(help.contains(part), "{yaml}: {} / {help}", parsed.faults[0].message);
    }
}

#[test]
fn bombs_are_refused_before_they_cost() {
    let mut quadratic = "a: &a [".to_owned();
    quadratic.push_str(&"x,".repeat(6_000));
    quadratic.push_str("]\nb: [");
    quadratic.push_str(&"*a,".repeat(6_000));
    quadratic.push(']');
    let mut laughs = "a0: &a0 [x]\n".to_owned();
    for level in 1..40 {
        let _ = writeln!(laughs, "a{level}: &a{level} [*a{0}, *a{0}, *a{0}]", level - 1);
    }
    let deep = format!("a: {}x{}", "[".repeat(70), "]".repeat(70));
    let blocks = "- ".repeat(300_000);
    for (yaml, expected) in [
        (quadratic, "BW105"),
        (laughs, "BW105"),
        (deep, "BW105 1:68"),
        ("[".repeat(1 << 20), "BW105 1:1001"),
        (format!("a: {blocks}"), "BW102"),
        (format!("a:\n{blocks}"), "BW105"),
    ] {
        let said = faults(&yaml);
        assert!(said.starts_with(expected), "{} … said {said}", &yaml[..40]);
        assert_eq!(said.lines().count(), 1);
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in "[ab:\\-\\[\\]{}&*!<,#'\"|>?~ \n\t]{0,60}") {
        parse(0, &Text::new(text));
    }
}
