//! `SyncPath`: a name below the synced folder that cannot leave it (P7).

use super::text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// The daemon's own folder inside the synced one; never synced, in any ASCII case.
pub const PRIVATE_DIR: &str = ".dirsync";
/// The root's file of patterns that are not synced; itself synced.
pub const IGNORE_FILE: &str = ".dirsyncignore";

pub const MAX_COMPONENT_BYTES: usize = 255;
const MAX_PATH_BYTES: usize = 4095;
/// A path that is synced has at most this many components (P9): each may need a folder of its own
/// in the index.
pub const MAX_COMPONENTS: usize = 256;

/// The bytes of a name below the folder, `/`-separated.
///
/// Any byte but NUL; never empty or absolute, no empty component, no `.` or `..`, none that is
/// `.dirsync`; each component at most 255 bytes, the whole at most 4,095. Names are byte-exact:
/// neither Unicode nor case is rewritten. Ordered by bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncPath(Arc<[u8]>);

/// Why some bytes are no [`SyncPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("the path is empty")]
    Empty,
    #[error("the path has an empty, '.' or '..' component, or starts or ends with '/'")]
    Component,
    #[error("the path holds a NUL byte")]
    Nul,
    #[error("the path is longer than 4,095 bytes, or a component is longer than 255")]
    TooLong,
    #[error("the path has a component '.dirsync'")]
    Private,
    #[error("the path's text form is malformed")]
    Text,
}

impl SyncPath {
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, BadPath> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() {
            return Err(BadPath::Empty);
        }
        if bytes.len() > MAX_PATH_BYTES {
            return Err(BadPath::TooLong);
        }
        bytes.split(|&b| b == b'/').try_for_each(check_component)?;
        Ok(Self(bytes.into()))
    }

    /// The name `name` inside the folder `dir`; `None` is the root.
    pub fn join(dir: Option<&Self>, name: &[u8]) -> Result<Self, BadPath> {
        check_component(name)?;
        match dir {
            None => Self::new(name),
            Some(dir) => {
                let mut bytes = Vec::with_capacity(dir.0.len() + 1 + name.len());
                bytes.extend_from_slice(&dir.0);
                bytes.push(b'/');
                bytes.extend_from_slice(name);
                if bytes.len() > MAX_PATH_BYTES {
                    return Err(BadPath::TooLong);
                }
                Ok(Self(bytes.into()))
            }
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The last component.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or(&self.0)
    }

    /// The folder that holds it; `None` when that is the root.
    pub fn parent(&self) -> Option<Self> {
        let cut = self.0.iter().rposition(|&b| b == b'/')?;
        Some(Self(self.0[..cut].into()))
    }

    /// Its folders from the nearest to the one below the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent)
    }

    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/')
    }

    /// How many components it has.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Whether it has too many components to be synced.
    pub fn is_too_deep(&self) -> bool {
        self.depth() > MAX_COMPONENTS
    }

    /// Whether it lies strictly below `dir`.
    pub fn is_below(&self, dir: &Self) -> bool {
        self.0.len() > dir.0.len() && self.0.starts_with(&dir.0) && self.0[dir.0.len()] == b'/'
    }

    /// Half-open bounds, in byte order, of all paths strictly below this one.
    pub fn range_below(&self) -> (Vec<u8>, Vec<u8>) {
        let bound = |end| [&self.0[..], &[end]].concat();
        (bound(b'/'), bound(b'/' + 1))
    }

    /// The escaped text form, for people, logs and JSON.
    pub fn to_text(&self) -> String {
        text::escape(&self.0)
    }

    pub fn from_text(text: &str) -> Result<Self, BadPath> {
        Self::new(text::unescape(text).ok_or(BadPath::Text)?)
    }
}

fn check_component(name: &[u8]) -> Result<(), BadPath> {
    if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
        return Err(BadPath::Component);
    }
    if name.contains(&0) {
        return Err(BadPath::Nul);
    }
    if name.len() > MAX_COMPONENT_BYTES {
        return Err(BadPath::TooLong);
    }
    if name.eq_ignore_ascii_case(PRIVATE_DIR.as_bytes()) {
        return Err(BadPath::Private);
    }
    Ok(())
}

impl fmt::Display for SyncPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl fmt::Debug for SyncPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

/// Text for people (JSON), bytes for machines (postcard).
impl Serialize for SyncPath {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.serialize_str(&self.to_text()) } else { s.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for SyncPath {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let path = if d.is_human_readable() {
            Self::from_text(&String::deserialize(d)?)
        } else {
            Self::new(<&[u8]>::deserialize(d)?)
        };
        path.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_escape_the_folder_is_refused() {
        let long = vec![b'x'; 256];
        let deep = [b'd', b'/'].repeat(2100);
        for (bytes, why) in [
            (&b""[..], BadPath::Empty),
            (b"/etc", BadPath::Component),
            (b"a//b", BadPath::Component),
            (b"a/", BadPath::Component),
            (b"..", BadPath::Component),
            (b"a/../b", BadPath::Component),
            (b"./a", BadPath::Component),
            (b"a\0b", BadPath::Nul),
            (b".dirsync", BadPath::Private),
            (b"a/.DirSync/b", BadPath::Private),
            (&long, BadPath::TooLong),
            (&deep, BadPath::TooLong),
        ] {
            assert_eq!(SyncPath::new(bytes), Err(why), "{:?}", text::escape(bytes));
        }
    }

    #[test]
    fn odd_names_are_names() {
        for bytes in [&b"-rf"[..], b"a\nb", b"\xff\xfe", b" ", b"...", b".dirsyncignore", &[b'x'; 255]] {
            assert!(SyncPath::new(bytes).is_ok(), "{:?}", text::escape(bytes));
        }
    }

    #[test]
    fn parents_and_ranges_follow_the_separators() {
        let path = SyncPath::new("a/b/c").unwrap();
        let names: Vec<_> = path.ancestors().map(|p| p.to_text()).collect();
        assert_eq!(names, ["a/b", "a"]);
        assert_eq!(path.name(), b"c");
        let (from, to) = SyncPath::new("a").unwrap().range_below();
        for (other, inside) in [("a/b", true), ("a/\u{7f}", true), ("a", false), ("a-b", false), ("a0", false)] {
            let other = SyncPath::new(other).unwrap();
            assert_eq!((&from[..]..&to[..]).contains(&other.as_bytes()), inside, "{other}");
            assert_eq!(other.is_below(&SyncPath::new("a").unwrap()), inside, "{other}");
        }
    }

    proptest! {
        #[test]
        fn both_forms_round_trip(bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
            if let Ok(path) = SyncPath::new(&bytes) {
                prop_assert_eq!(&SyncPath::from_text(&path.to_text()).unwrap(), &path);
                let json = serde_json::to_string(&path).unwrap();
                prop_assert_eq!(&serde_json::from_str::<SyncPath>(&json).unwrap(), &path);
                let bin = postcard::to_stdvec(&path).unwrap();
                prop_assert_eq!(&postcard::from_bytes::<SyncPath>(&bin).unwrap(), &path);
            }
        }
    }
}
