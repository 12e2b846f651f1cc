//! A machine's membership as a file: what it holds, and its way into a state directory.
//!
//! Inside its encryption an export is JSON, so that a person can get at the secret without dirsync.
//! May use `io/net` and `io/store`. Deliberately not here: passphrases and files (`cli`).

pub mod import;
pub mod sealed;

use crate::engine::{GroupState, META_MEMBERSHIP, META_ROLE};
use crate::io::clock::wall_ns;
use crate::io::net::device_key::{META_DEVICE_KEY, META_FORMER_KEYS};
use crate::io::net::succession::{self, MAX_CHAIN_BYTES};
use crate::io::net::tls::DeviceKey;
use crate::io::store::secret::Secret;
use crate::model::{DeviceId, SyncRole, text};
use crate::wire::packet::is_clean_name;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// How a person named this machine.
pub const META_NAME: &str = "daemon.name";
/// What of the index is in an export.
pub const EXPORTED_META: [&str; 5] = [META_DEVICE_KEY, META_FORMER_KEYS, META_NAME, META_ROLE, META_MEMBERSHIP];

const FORMAT: u32 = 1;
/// Far above a certificate and a key of P-256.
const MAX_KEY_BYTES: usize = 4 << 10;
const MAX_MEMBERSHIP_BYTES: usize = 1 << 20;
/// Far above all of that in hexadecimal digits.
pub const MAX_EXPORT_BYTES: usize = 4 << 20;

const DEVICE_KEY: &str = "device key";
const FORMER_KEYS: &str = "chain of former keys";
const NAME: &str = "name";
const ROLE: &str = "role";
const LIST: &str = "list of machines";

/// Why something is no export that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("it holds no membership of dirsync")]
    NoMembership,
    #[error("it is of format {0}, and this dirsync knows format {FORMAT}: use the newer dirsync that made it")]
    Newer(u32),
    #[error("it says that it is of format 0, which no dirsync makes")]
    NoFormat,
    #[error("its list of machines has more than {MAX_MEMBERSHIP_BYTES} bytes, which no import takes")]
    TooLarge,
    #[error("its {0} is malformed: export it again where the machine still is")]
    Malformed(&'static str),
    #[error("its {what} cannot be read: {why}")]
    Unreadable { what: &'static str, why: String },
}

/// What makes a machine a member, and which one.
pub struct ExportedMember {
    pub secret: Secret,
    pub key: DeviceKey,
    /// The chain of its former keys.
    pub former_keys: Option<Vec<u8>>,
    pub name: Option<String>,
    pub role: SyncRole,
    /// The list of machines, as the index has it.
    pub membership: Option<Vec<u8>>,
}

/// The same as text.
#[derive(Serialize, Deserialize)]
pub struct ExportText {
    dirsync_membership: u32,
    made_by: String,
    /// Nanoseconds since 1970.
    made_ns: String,
    name: Option<String>,
    role: String,
    /// As the file of the secret has it.
    secret: String,
    /// Bytes are hexadecimal digits.
    device_key: String,
    former_keys: Option<String>,
    membership: Option<String>,
}

impl ExportedMember {
    /// From the secret and an index. `name`: where nobody named this machine.
    pub fn gather<E: Display>(
        secret: Secret,
        meta: impl Fn(&str) -> Result<Option<Vec<u8>>, E>,
        name: Option<String>,
    ) -> Result<Self, ExportError> {
        let read = |key, what| meta(key).map_err(|why| ExportError::Unreadable { what, why: why.to_string() });
        let word = |key, what| {
            let bytes = read(key, what)?;
            bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| ExportError::Malformed(what))).transpose()
        };
        let key = read(META_DEVICE_KEY, DEVICE_KEY)?.ok_or(ExportError::NoMembership)?;
        let membership = read(META_MEMBERSHIP, LIST)?;
        if membership.as_ref().is_some_and(|list| list.len() > MAX_MEMBERSHIP_BYTES) {
            return Err(ExportError::TooLarge);
        }
        let role = word(META_ROLE, ROLE)?.map(|word| SyncRole::of(&word).ok_or(ExportError::Malformed(ROLE)));
        let member = Self {
            secret,
            key: DeviceKey::from_bytes(&key).map_err(|_| ExportError::Malformed(DEVICE_KEY))?,
            former_keys: read(META_FORMER_KEYS, FORMER_KEYS)?,
            name: word(META_NAME, NAME)?.or(name).filter(|name| is_clean_name(name)),
            role: role.transpose()?.unwrap_or_default(),
            membership,
        };
        member.checked()
    }

    /// That what is carried as bytes means something.
    fn checked(self) -> Result<Self, ExportError> {
        let is_chain = |chain: &[u8]| !succession::former_ids(chain, self.device()).is_empty();
        if !self.former_keys.as_deref().is_none_or(is_chain) {
            return Err(ExportError::Malformed(FORMER_KEYS));
        }
        if self.membership.as_deref().is_some_and(|list| GroupState::checked(list).is_none()) {
            return Err(ExportError::Malformed(LIST));
        }
        Ok(self)
    }

    pub fn device(&self) -> DeviceId {
        self.key.device().expect("a key that was read names its device")
    }

    pub fn to_text(&self) -> ExportText {
        ExportText {
            dirsync_membership: FORMAT,
            made_by: format!("dirsync {}", env!("CARGO_PKG_VERSION")),
            made_ns: wall_ns().to_string(),
            name: self.name.clone(),
            role: self.role.word().to_owned(),
            secret: self.secret.line(),
            device_key: text::hex(&self.key.to_bytes()),
            former_keys: self.former_keys.as_deref().map(text::hex),
            membership: self.membership.as_deref().map(text::hex),
        }
    }

    /// What was decrypted is nobody's word yet: each field is checked.
    pub fn of_bytes(json: &[u8]) -> Result<Self, ExportError> {
        /// Read first: another format may have other fields.
        #[derive(Deserialize)]
        struct Head {
            dirsync_membership: u32,
        }
        match serde_json::from_slice::<Head>(json) {
            Ok(Head { dirsync_membership: FORMAT }) => {}
            Ok(Head { dirsync_membership: 0 }) => return Err(ExportError::NoFormat),
            Ok(Head { dirsync_membership }) => return Err(ExportError::Newer(dirsync_membership)),
            Err(_) => return Err(ExportError::NoMembership),
        }
        let text: ExportText = serde_json::from_slice(json).map_err(|_| ExportError::NoMembership)?;
        Self::of_text(&text)
    }

    pub fn of_text(text: &ExportText) -> Result<Self, ExportError> {
        let malformed = ExportError::Malformed;
        let bytes = |digits: &str, most| text::bytes_of_hex(digits).filter(|bytes| bytes.len() <= most);
        let perhaps = |digits: Option<&String>, most, what| {
            digits.map(|digits| bytes(digits, most).ok_or(malformed(what))).transpose()
        };
        let key = bytes(&text.device_key, MAX_KEY_BYTES).and_then(|key| DeviceKey::from_bytes(&key).ok());
        if !text.name.as_deref().is_none_or(is_clean_name) {
            return Err(malformed(NAME));
        }
        let member = Self {
            secret: Secret::of_line(&text.secret).ok_or(malformed("secret"))?,
            key: key.ok_or(malformed(DEVICE_KEY))?,
            former_keys: perhaps(text.former_keys.as_ref(), MAX_CHAIN_BYTES, FORMER_KEYS)?,
            name: text.name.clone(),
            role: SyncRole::of(&text.role).ok_or(malformed(ROLE))?,
            membership: perhaps(text.membership.as_ref(), MAX_MEMBERSHIP_BYTES, LIST)?,
        };
        member.checked()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::api::index::Index;
    use crate::engine::api::map_index::MapIndex;
    use crate::model::Capability;
    use serde_json::{Value, json};
    use std::convert::Infallible;

    /// As the index of a member of this group has it.
    pub(crate) fn list(secret: &Secret) -> Vec<u8> {
        let mut index = MapIndex::default();
        GroupState::settle(&mut index, secret.handed(), None);
        index.meta(META_MEMBERSHIP).unwrap()
    }

    fn secret() -> Secret {
        Secret::of_line(&"ab".repeat(32)).unwrap()
    }

    /// What an index with these says.
    fn metas(held: &[(&str, &[u8])]) -> impl Fn(&str) -> Result<Option<Vec<u8>>, Infallible> + use<> {
        let key = DeviceKey::generate().unwrap().to_bytes();
        let held: Vec<_> = held.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect();
        move |asked| {
            let given = held.iter().find(|(key, _)| key == asked).map(|(_, value)| value.clone());
            Ok(given.or_else(|| (asked == META_DEVICE_KEY).then(|| key.clone())))
        }
    }

    pub(crate) fn member() -> ExportedMember {
        let metas = metas(&[(META_ROLE, b"send-only"), (META_MEMBERSHIP, &list(&secret()))]);
        ExportedMember::gather(secret(), metas, Some("nas".to_owned())).unwrap()
    }

    #[test]
    fn a_member_comes_back_from_its_text_as_it_was() {
        let member = member();
        let json = serde_json::to_vec(&member.to_text()).unwrap();
        let again = ExportedMember::of_bytes(&json).unwrap();
        assert!(again.secret == member.secret);
        assert_eq!(again.key.to_bytes(), member.key.to_bytes());
        assert_eq!((again.name.as_deref(), again.role), (Some("nas"), SyncRole::SendOnly));
        assert_eq!((again.former_keys, again.membership), (None, Some(list(&secret()))));
    }

    #[test]
    fn a_machine_that_may_only_read_comes_back_as_such_a_one() {
        let reader = Secret::from_member(&member().secret.to_joiner(Capability::ReadOnly).unwrap());
        let text = ExportedMember { secret: reader.clone(), ..member() }.to_text();
        let again = ExportedMember::of_text(&text).unwrap().secret;
        assert!(again == reader && again.capability() == Capability::ReadOnly);
    }

    #[test]
    fn an_index_without_a_device_has_no_membership() {
        let gathered = ExportedMember::gather(secret(), |_| Ok::<_, Infallible>(None), None);
        assert!(matches!(gathered, Err(ExportError::NoMembership)));
    }

    #[test]
    fn a_list_of_machines_that_could_not_be_imported_is_not_exported_without_a_word() {
        let gathered = |bytes: usize| {
            let mut padded = list(&secret());
            padded.resize(bytes, 0);
            ExportedMember::gather(secret(), metas(&[(META_MEMBERSHIP, &padded)]), None)
        };
        let largest = gathered(MAX_MEMBERSHIP_BYTES).unwrap().to_text();
        let json = serde_json::to_vec_pretty(&largest).unwrap();
        assert!(json.len() <= MAX_EXPORT_BYTES && ExportedMember::of_bytes(&json).is_ok());
        assert!(matches!(gathered(MAX_MEMBERSHIP_BYTES + 1), Err(ExportError::TooLarge)));
    }

    #[test]
    fn what_an_index_does_not_tell_is_no_silent_loss() {
        let key = DeviceKey::generate().unwrap().to_bytes();
        for (unread, what) in EXPORTED_META.into_iter().zip([DEVICE_KEY, FORMER_KEYS, NAME, ROLE, LIST]) {
            let meta = |asked: &str| match asked {
                _ if asked == unread => Err("disk I/O error"),
                META_DEVICE_KEY => Ok(Some(key.clone())),
                _ => Ok(None),
            };
            let why = ExportedMember::gather(secret(), meta, None).err().expect(what).to_string();
            assert_eq!(why, format!("its {what} cannot be read: disk I/O error"));
            let gathered = ExportedMember::gather(secret(), metas(&[(unread, b"\xff king")]), None);
            let why = gathered.err().expect(what).to_string();
            assert!(why.contains(what) && why.contains("malformed"), "{why}");
        }
    }

    #[test]
    fn what_is_no_export_is_refused_by_the_field_that_is_wrong() {
        let good = serde_json::to_value(member().to_text()).unwrap();
        let with = |field: &str, value: Value| {
            let mut changed = good.clone();
            changed[field] = value;
            changed.to_string()
        };
        let (old, new) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
        let of_another = succession::extended(None, &old, new.device().unwrap()).unwrap();
        let of_another = text::hex(&of_another);
        let mut list_cut = good["membership"].as_str().unwrap().to_owned();
        list_cut.truncate(list_cut.len() - 2);
        let table = [
            ("", "no membership"),
            ("{}", "no membership"),
            ("[1]", "no membership"),
            ("{\"dirsync_membership\": 1}", "no membership"),
            (&with("dirsync_membership", json!("1")), "no membership"),
            (&with("dirsync_membership", json!(2)), "use the newer dirsync"),
            (&with("dirsync_membership", json!(0)), "format 0, which no dirsync makes"),
            (&with("secret", json!("abcd")), "secret"),
            (&with("secret", json!("read-only abcd")), "secret"),
            (&with("device_key", json!("zz")), "device key"),
            (&with("device_key", json!("00")), "device key"),
            (&with("device_key", json!("00".repeat(5000))), "device key"),
            (&with("former_keys", json!("0")), "former keys"),
            (&with("former_keys", json!("00".repeat(1000))), "former keys"),
            (&with("former_keys", json!(&of_another)), "former keys"),
            (&with("membership", json!("x")), "list of machines"),
            (&with("membership", json!("")), "list of machines"),
            (&with("membership", json!("0700ff")), "list of machines"),
            (&with("membership", json!(&list_cut)), "list of machines"),
            (&with("membership", json!("00".repeat(MAX_MEMBERSHIP_BYTES + 1))), "list of machines"),
            (&with("name", json!("a\nb")), "name"),
            (&with("name", json!("")), "name"),
            (&with("role", json!("king")), "role"),
        ];
        for (json, word) in table {
            let why = ExportedMember::of_bytes(json.as_bytes()).err().expect(word).to_string();
            assert!(why.contains(word), "{word}: {why}");
        }
        // A later version may add a field.
        assert!(ExportedMember::of_bytes(with("later", json!(1)).as_bytes()).is_ok());
    }
}
