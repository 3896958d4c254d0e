//! Label selectors, checked before they are sent: the API server's answer to a wrong one comes too late for a flag.

use thiserror::Error;

/// A text that is not a label selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("write a label selector such as team=maps, tier!=test, 'env in (a,b)', region or !region, joined by commas")]
pub struct SelectorError;

/// Takes a label selector as kubectl's `--selector` does; an empty one selects everything.
pub fn parse_selector(text: &str) -> Result<String, SelectorError> {
    let valid = text.trim().is_empty() || requirements(text).all(is_requirement);
    if valid { Ok(text.to_owned()) } else { Err(SelectorError) }
}

/// The parts between the commas that are not in brackets.
fn requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    let comma = move |c: char| {
        inside = c == '(' || (inside && c != ')');
        c == ',' && !inside
    };
    text.split(comma).map(str::trim)
}

fn is_requirement(text: &str) -> bool {
    if let Some(set) = text.strip_suffix(')') {
        return is_set(set);
    }
    if let Some(key) = text.strip_prefix('!') {
        return is_key(key.trim());
    }
    for operator in ["!=", "==", "="] {
        if let Some((key, value)) = text.split_once(operator) {
            return is_key(key.trim()) && is_value(value.trim());
        }
    }
    if let Some((key, number)) = text.split_once(['<', '>']) {
        return is_key(key.trim()) && number.trim().parse::<i64>().is_ok();
    }
    is_key(text)
}

/// Whether it is `key in (a, b`, without the closing parenthesis.
fn is_set(text: &str) -> bool {
    let Some((head, values)) = text.split_once('(') else { return false };
    let mut words = head.split_whitespace();
    let (key, operator) = (words.next().unwrap_or_default(), words.next());
    let operator = matches!(operator, Some("in" | "notin")) && words.next().is_none();
    operator && is_key(key) && values.split(',').all(|value| is_value(value.trim()))
}

fn is_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

/// A label's key: a name of at most 63 characters, with a DNS subdomain and a slash before it or not.
fn is_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let domain =
        |prefix: &str| prefix.len() <= 253 && prefix.split('.').all(|label| is_name(label) && !label.contains('_'));
    is_name(name) && prefix.is_none_or(domain)
}

fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}
