//! Objects of the cluster: which one, in which version, and how much is known of it.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::hex;

/// Which resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// The UID of an object: a UUID in every cluster, although the API allows any text. A UUID takes no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uid {
    Uuid([u8; 16]),
    Other(Arc<str>),
}

/// Where the digits of each byte of a UUID are: dashes part them.
const BYTES_AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
const UUID_CHARS: usize = 36;

/// Reads a UUID in lower case.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; UUID_CHARS] = text.as_bytes().try_into().ok()?;
    if [text[8], text[13], text[18], text[23]] != [b'-'; 4] {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, at) in bytes.iter_mut().zip(BYTES_AT) {
        *byte = hex::byte(text[at], text[at + 1])?;
    }
    Some(bytes)
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        match uuid(text) {
            Some(uuid) => Self::Uuid(uuid),
            None if text.is_empty() => Self::default(),
            None => Self::Other(text.into()),
        }
    }
}

impl Default for Uid {
    fn default() -> Self {
        Self::Other(Arc::default())
    }
}

impl Uid {
    /// Whether nothing is known but that there is an object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Other(text) if text.is_empty())
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self {
            Self::Uuid(bytes) => bytes,
            Self::Other(text) => return f.write_str(text),
        };
        let mut text = [b'-'; UUID_CHARS];
        for (byte, at) in bytes.iter().zip(BYTES_AT) {
            [text[at], text[at + 1]] = hex::digits(*byte);
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// A `resourceVersion`: a number in every cluster, although the API allows any text. A number takes no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceVersion {
    Number(u64),
    Other(Arc<str>),
}

impl From<&str> for ResourceVersion {
    fn from(text: &str) -> Self {
        match text.parse() {
            // What is written otherwise does not come back as it was.
            Ok(number) if text == "0" || text.starts_with(|first| matches!(first, '1'..='9')) => Self::Number(number),
            _ if text.is_empty() => Self::default(),
            _ => Self::Other(text.into()),
        }
    }
}

impl Default for ResourceVersion {
    fn default() -> Self {
        Self::Other(Arc::default())
    }
}

impl ResourceVersion {
    /// Returns the number that it is.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Other(_) => None,
        }
    }

    /// Whether it is older than another; what is no number is taken as new.
    #[must_use]
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.number().zip(other.number()).is_some_and(|(own, other)| own < other)
    }
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// What stands for a text, compares with it and is written as it.
macro_rules! text {
    ($type:ty) => {
        impl From<String> for $type {
            fn from(text: String) -> Self {
                text.as_str().into()
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, text: &str) -> bool {
                let other: Self = text.into();
                *self == other
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

text!(Uid);
text!(ResourceVersion);

/// Which object, in which state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub uid: Uid,
    pub resource: ResourceVersion,
}

impl Version {
    #[must_use]
    pub fn new(uid: impl Into<Uid>, resource: impl Into<ResourceVersion>) -> Self {
        Self { uid: uid.into(), resource: resource.into() }
    }
}

/// How much is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed<T> {
    /// Nothing.
    Unknown,
    /// It does not exist.
    Absent,
    /// Its version, from a watch.
    Cached(Version),
    /// Its version and what a read returned.
    Loaded(Version, T),
}

impl<T> Observed<T> {
    /// Returns the same without the content.
    #[must_use]
    pub fn unloaded<U>(&self) -> Observed<U> {
        match self {
            Self::Unknown => Observed::Unknown,
            Self::Absent => Observed::Absent,
            Self::Cached(version) | Self::Loaded(version, _) => Observed::Cached(version.clone()),
        }
    }

    /// Whether it was read.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        matches!(self, Self::Loaded(..))
    }

    /// Returns the version of an object that exists.
    #[must_use]
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Unknown | Self::Absent => None,
            Self::Cached(version) | Self::Loaded(version, _) => Some(version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_and_a_version_come_back_as_they_were() {
        for text in [
            "",
            "7c0f4a4e-0000-4000-8000-0123456789ab",
            "7C0F4A4E-0000-4000-8000-0123456789AB",
            "uid",
            "7c0f4a4e00-00-4000-8000-0123456789ab",
            "7c0f4a4e-0000-4000-8000-0123456789-b",
        ] {
            let uid = Uid::from(text);
            assert!(uid == *text && uid.to_string() == text, "{uid}");
        }
        for text in ["", "0", "1", "18446744073709551615", "18446744073709551616", "007", "+7", "-7", "v1"] {
            let version = ResourceVersion::from(text);
            assert!(version == *text && version.to_string() == text, "{version}");
        }
        assert!(matches!(Uid::from("7c0f4a4e-0000-4000-8000-0123456789ab"), Uid::Uuid(_)));
        assert_eq!(ResourceVersion::from("12"), ResourceVersion::Number(12));
    }

    #[test]
    fn versions_are_compared_as_numbers_and_others_are_new() {
        let older = |a: &str, b: &str| ResourceVersion::from(a).is_older_than(&b.into());
        assert!(older("9", "10"));
        assert!(!older("10", "9") && !older("10", "10") && !older("a", "b") && !older("9", "b") && !older("", "1"));
    }
}
