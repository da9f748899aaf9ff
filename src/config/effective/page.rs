//! A page of YAML as it is written: lines, and mappings nested by the dots of their keys.

use indexmap::IndexMap;

/// Lines of YAML.
#[derive(Default)]
pub(super) struct Page(pub(super) String);

impl Page {
    /// A line, so far in.
    pub(super) fn line(&mut self, indent: usize, text: &str) {
        self.0.push_str(&"  ".repeat(indent));
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// A line for the reader.
    pub(super) fn comment(&mut self, text: &str) {
        self.line(0, &format!("# {text}"));
    }
}

/// A mapping under way: nested by the dots of its keys.
#[derive(Default)]
pub(super) struct Tree(IndexMap<String, Branch>);

enum Branch {
    Value { text: String, is_default: bool },
    Tree(Tree),
}

impl Tree {
    /// A value that somebody wrote.
    pub(super) fn put(&mut self, key: &str, value: &str) {
        self.insert(key, value, false);
    }

    /// A value that nobody wrote.
    pub(super) fn put_default(&mut self, key: &str, value: &str) {
        self.insert(key, value, true);
    }

    /// A value below its dotted key.
    pub(super) fn insert(&mut self, key: &str, value: &str, is_default: bool) {
        match key.split_once('.') {
            None => {
                self.0.insert(key.to_owned(), Branch::Value { text: value.to_owned(), is_default });
            }
            Some((first, rest)) => {
                let branch = self.0.entry(first.to_owned()).or_insert_with(|| Branch::Tree(Self::default()));
                if let Branch::Tree(tree) = branch {
                    tree.insert(rest, value, is_default);
                }
            }
        }
    }

    /// Whether anything stands in it but comments.
    pub(super) fn is_written(&self) -> bool {
        self.0.values().any(|branch| match branch {
            Branch::Value { is_default, .. } => !is_default,
            Branch::Tree(tree) => tree.is_written(),
        })
    }

    /// Writes it, so far in.
    pub(super) fn write(&self, out: &mut Page, indent: usize) {
        for (key, branch) in &self.0 {
            match branch {
                Branch::Value { text, is_default: false } => out.line(indent, &format!("{key}: {text}")),
                Branch::Value { text, is_default: true } => out.line(indent, &format!("# {key}: {text}")),
                Branch::Tree(tree) => {
                    // A key above comments alone would be a mapping without anything in it.
                    out.line(indent, &format!("{}{key}:", if tree.is_written() { "" } else { "# " }));
                    tree.write(out, indent + 1);
                }
            }
        }
    }
}
