//! Fenced code blocks of documents.

use std::path::Path;

/// A fenced code block: the words after its opening fence, its text and its line.
pub struct Fence {
    pub words: Vec<String>,
    pub text: String,
    pub line: usize,
}

impl Fence {
    /// Whether it has this language and this second word.
    pub fn is(&self, language: &str, word: &str) -> bool {
        self.words.first().is_some_and(|first| first == language)
            && self.words.get(1).map_or("", String::as_str) == word
    }
}

/// Returns the code blocks of a document, in order.
pub fn fences(document: &Path) -> Vec<Fence> {
    let text = std::fs::read_to_string(document).unwrap_or_else(|error| panic!("{}: {error}", document.display()));
    let mut found = Vec::new();
    let mut open: Option<Fence> = None;
    for (at, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(words), None) => {
                let words = words.split_whitespace().map(str::to_owned).collect();
                open = Some(Fence { words, text: String::new(), line: at + 1 });
            }
            (None, Some(fence)) => {
                fence.text.push_str(line);
                fence.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block is not closed", document.display());
    found
}

/// Returns the shell commands of a document for one cluster, in order.
pub fn script(document: &Path, cluster: &str) -> String {
    let blocks = fences(document).into_iter().filter(|fence| fence.is("sh", cluster));
    let script: String = blocks.map(|fence| fence.text).collect();
    assert!(!script.is_empty(), "{}: no block sh {cluster}", document.display());
    format!("set -euo pipefail\n{script}")
}
