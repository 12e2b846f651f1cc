//! An export, encrypted by a passphrase: a file of age (<https://age-encryption.org/v1>), which the
//! program `age` opens as well.
//!
//! Deliberately not here: what is in it.

use super::MAX_EXPORT_BYTES;
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, scrypt};
use std::io::{self, Read, Write};
use std::iter;

/// scrypt with N = 2^18 and r = 8, as the program `age` has it: 256 MiB, about a second.
const WORK_FACTOR: u8 = 18;
/// A file that demands more is refused: 1 GiB.
const MAX_WORK_FACTOR: u8 = 20;
/// More of a file is not read.
pub const MAX_SEALED_BYTES: usize = MAX_EXPORT_BYTES + (64 << 10);

/// Why a file cannot be opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it is no export of dirsync, or it was cut off at its beginning")]
    NotSealed,
    #[error("it is not encrypted by a passphrase, so it is no export of dirsync")]
    NoPassphrase,
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    #[error("it demands more work than any export of dirsync does (2^{0})")]
    Excessive(u8),
    #[error("it was cut off or damaged: take another copy")]
    Damaged,
}

/// The bytes of a file that only this passphrase opens.
pub fn seal(plain: &[u8], passphrase: &str) -> io::Result<Vec<u8>> {
    seal_with(plain, passphrase, WORK_FACTOR)
}

fn seal_with(plain: &[u8], passphrase: &str, work_factor: u8) -> io::Result<Vec<u8>> {
    let mut recipient = scrypt::Recipient::new(SecretString::from(passphrase));
    recipient.set_work_factor(work_factor);
    let encryptor = Encryptor::with_recipients(iter::once(&recipient as _)).map_err(io::Error::other)?;
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed)?;
    writer.write_all(plain)?;
    writer.finish()?;
    Ok(sealed)
}

/// What is in a file. Nothing of it is handed on before all of it was verified.
pub fn open(sealed: &[u8], passphrase: &str) -> Result<Vec<u8>, SealError> {
    let decryptor = Decryptor::new_buffered(sealed).map_err(|_| SealError::NotSealed)?;
    if !decryptor.is_scrypt() {
        return Err(SealError::NoPassphrase);
    }
    let mut identity = scrypt::Identity::new(SecretString::from(passphrase));
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    let opened = decryptor.decrypt(iter::once(&identity as _)).map_err(|why| match why {
        DecryptError::ExcessiveWork { required, .. } => SealError::Excessive(required),
        DecryptError::KeyDecryptionFailed | DecryptError::DecryptionFailed => SealError::WrongPassphrase,
        _ => SealError::Damaged,
    })?;
    let mut plain = Vec::new();
    let read = opened.take(MAX_EXPORT_BYTES as u64 + 1).read_to_end(&mut plain);
    match read {
        Ok(read) if read <= MAX_EXPORT_BYTES => Ok(plain),
        _ => Err(SealError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 2 KiB of scrypt, so that many are tried.
    fn sealed(plain: &[u8]) -> Vec<u8> {
        seal_with(plain, "correct horse", 1).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_passphrase_alone() {
        let file = sealed(b"words");
        assert_eq!(open(&file, "correct horse").unwrap(), b"words");
        for wrong in ["correct horse ", "Correct horse", ""] {
            assert_eq!(open(&file, wrong), Err(SealError::WrongPassphrase), "'{wrong}'");
        }
        assert!(!file.windows(5).any(|five| five == b"words"));
    }

    #[test]
    fn a_file_that_was_cut_off_or_changed_anywhere_is_refused() {
        let file = sealed(&[7; 300]);
        for at in 0..file.len() {
            assert!(open(&file[..at], "correct horse").is_err(), "the first {at} bytes");
            let mut other = file.clone();
            other[at] ^= 1;
            assert!(open(&other, "correct horse").is_err(), "byte {at}");
        }
        assert_eq!(open(&file[..file.len() - 1], "correct horse"), Err(SealError::Damaged));
        assert!(open(&[&file[..], b"x"].concat(), "correct horse").is_err(), "a byte too many");
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_refused_with_its_reason() {
        assert_eq!(open(b"", "p"), Err(SealError::NotSealed));
        assert_eq!(open(b"a letter\n", "p"), Err(SealError::NotSealed));
        assert_eq!(open(&[0; 4096], "p"), Err(SealError::NotSealed));
        let key = age::x25519::Identity::generate();
        let to_key = age::encrypt(&key.to_public(), b"words").unwrap();
        assert_eq!(open(&to_key, "p"), Err(SealError::NoPassphrase));
        let file = String::from_utf8_lossy(&sealed(b"words")).into_owned();
        for greedy in [MAX_WORK_FACTOR + 1, 40] {
            let demanded = file.replacen(" 1\n", &format!(" {greedy}\n"), 1);
            assert_eq!(open(demanded.as_bytes(), "correct horse"), Err(SealError::Excessive(greedy)));
        }
    }

    #[test]
    fn more_than_any_export_holds_is_not_taken() {
        assert_eq!(open(&sealed(&vec![0; MAX_EXPORT_BYTES + 1]), "correct horse"), Err(SealError::Damaged));
        assert_eq!(open(&sealed(&vec![0; MAX_EXPORT_BYTES]), "correct horse").unwrap().len(), MAX_EXPORT_BYTES);
        assert!(sealed(&vec![0; MAX_EXPORT_BYTES]).len() <= MAX_SEALED_BYTES);
    }
}
