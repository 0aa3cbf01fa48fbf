//! Secret values: redacted when printed, kept out of core dumps, wiped when dropped.

use std::{
    fmt,
    hash::{Hash, Hasher},
    path::Path,
    sync::Arc,
};

use aws_lc_rs::{digest, hmac, rand};

use crate::files::{self, FileError};

/// The alignment by which the plugin's allocator recognises memory to be kept out of core dumps.
pub const PAGE_ALIGN: usize = 4096;

/// A value that has its memory pages to itself once it is in a `Box`. This does not cover memory that the
/// value points to.
#[repr(align(4096))]
pub struct Pages<T: ?Sized>(T);

const _: () = assert!(align_of::<Pages<u8>>() == PAGE_ALIGN);

impl Pages<[u8]> {
    /// Copies bytes to pages of their own. The rest of the last page is zero.
    fn copy(bytes: &[u8]) -> Box<Self> {
        let mut pages = match bytes.len() {
            0..=PAGE_ALIGN => Self::zeros::<PAGE_ALIGN>(),
            _ => Self::zeros::<MAX_SECRET>(),
        };
        pages.0[..bytes.len()].copy_from_slice(bytes);
        pages
    }

    // Never inlined: a build without optimisation makes the bytes on the stack first, and a password must not take as
    // much of it as the largest secret.
    #[inline(never)]
    fn zeros<const N: usize>() -> Box<Self> {
        Box::new(Pages([0; N]))
    }
}

/// Bytes that print as `[secret]` and are not in core dumps.
#[derive(Clone)]
pub struct Secret(Arc<Bytes>);

struct Bytes {
    pages: Box<Pages<[u8]>>,
    length: usize,
}

impl Secret {
    /// Copies the bytes.
    ///
    /// # Panics
    ///
    /// Panics if there are more than [`MAX_SECRET`].
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        Self(Arc::new(Bytes {
            pages: Pages::copy(bytes),
            length: bytes.len(),
        }))
    }

    /// Returns the bytes. The name makes every use easy to find in a review.
    pub fn reveal(&self) -> &[u8] {
        &self.0.pages.0[..self.0.length]
    }

    /// Returns the bytes as text, if they are UTF-8.
    pub fn reveal_str(&self) -> Option<&str> {
        std::str::from_utf8(self.reveal()).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The longest secret, in bytes. The longest in use, a PEM key, has a few kilobytes.
pub(crate) const MAX_SECRET: usize = 64 * 1024;

/// Reads a secret from a file that only its owner and group may use.
///
/// One trailing line end is dropped, because every editor writes one.
///
/// # Errors
///
/// Returns what is wrong with the file.
pub fn read_secret_file(path: &Path) -> Result<Secret, FileError> {
    let content = files::read(path, MAX_SECRET as u64)?;
    content.is_private(path)?;
    let mut bytes = content.bytes;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        return Err(FileError::Empty);
    }
    Ok(Secret::new(&bytes[..]))
}

/// Recognises a credential that was seen before, without keeping the credential.
///
/// Fingerprints are HMAC-SHA256 under a random key that exists only in this process and not in core dumps. A
/// plain hash could be reversed with a dictionary of passwords.
pub struct Fingerprinter(Box<Pages<hmac::Key>>);

/// The operating system gave no random bytes.
#[derive(Debug)]
pub struct NoRandomness;

/// The fingerprint of a credential.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// A fingerprint that no credential has.
    pub(crate) const UNUSED: Self = Self([0; 32]);

    /// Returns eight bytes of the fingerprint, as a hash: its bytes are uniformly distributed.
    pub fn part(&self) -> u64 {
        let (eight, _) = self.0.split_first_chunk().expect("there are 32");
        u64::from_ne_bytes(*eight)
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.part());
    }
}

impl Fingerprinter {
    /// Draws the key.
    ///
    /// # Errors
    ///
    /// Returns an error if the operating system has no randomness.
    pub fn new() -> Result<Self, NoRandomness> {
        let mut key = vec![0; 32];
        rand::fill(&mut key).map_err(|_| NoRandomness)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Ok(Self(Box::new(Pages(key))))
    }

    /// Returns the fingerprint of these bytes. It is valid within this process only.
    pub fn of(&self, bytes: &[u8]) -> Fingerprint {
        let tag = hmac::sign(&self.0.0, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(tag.as_ref());
        Fingerprint(out)
    }
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter")
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[fingerprint]")
    }
}

/// Returns the SHA-256 of public bytes, which identifies a certificate.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_secret_never_prints() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
    }

    #[test]
    fn exactly_one_line_end_is_dropped() {
        for (content, secret) in [
            ("a b\n", "a b"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("a ", "a "),
        ] {
            assert_eq!(
                read_secret_file(file(content.as_bytes(), 0o640).path())
                    .unwrap()
                    .reveal(),
                secret.as_bytes()
            );
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_fix() {
        for mode in [0o644, 0o601, 0o602] {
            let error = read_secret_file(file(b"x", mode).path()).unwrap_err();
            assert!(error.to_string().contains("chmod 640"), "{error}");
        }
    }

    #[test]
    fn empty_long_missing_and_special_files_are_refused() {
        let empty = file(b"\n", 0o600);
        let long = file(&vec![b'x'; 70_000], 0o600);
        for (path, why) in [
            (empty.path(), "empty"),
            (long.path(), "longer"),
            (Path::new("/nonexistent"), "mosquitto"),
            (Path::new("/"), "regular file"),
        ] {
            let error = read_secret_file(path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn fingerprints_agree_under_the_same_key_only() {
        let (a, b) = (Fingerprinter::new().unwrap(), Fingerprinter::new().unwrap());
        assert_eq!(a.of(b"x"), a.of(b"x"));
        assert_ne!(a.of(b"x"), a.of(b"y"));
        assert_ne!(a.of(b"x"), b.of(b"x"));
    }
}
