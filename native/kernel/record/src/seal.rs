//! Sealing chunks, and the digests records hold (`docs/evidence-format.md`, section 6).
use std::cell::RefCell;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::Aes256Gcm;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zstd::zstd_safe::{self, CCtx};

use crate::json::push_number;

/// Level of compression: the one the format names.
const LEVEL: i32 = 1;

const NONCE_BYTES: usize = 12;

/// Largest plain text of one chunk.
pub const MAX_BLOB_BYTES: usize = 16 << 20;

/// Something could not be sealed: nothing of it may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealError(pub String);

impl std::fmt::Display for SealError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for SealError {}

/// Below this many bytes zstd takes a text for a dictionary of its own format, or for none.
const MIN_BASE_BYTES: usize = 8;

/// What sealing needs each time: making a compressor costs more than a small chunk.
struct Bench {
    compressor: CCtx<'static>,
    packed: Vec<u8>,
    bound: Vec<u8>,
}

/// Largest buffer kept for the next chunk.
const MAX_KEPT_BYTES: usize = 256 << 10;

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

/// Seals the chunks of one session: zstd, then AES-256-GCM with the chunk's number as nonce, bound to origin, session and number.
///
/// A number must never be used twice: whoever numbers the chunks sees to it.
pub struct Sealer {
    cipher: Aes256Gcm,
    bound: Vec<u8>,
}

impl Sealer {
    /// A sealer for one session of one log.
    pub fn new(data_key: &[u8], origin: &str, sid: &str) -> Result<Sealer, SealError> {
        let cipher = Aes256Gcm::new_from_slice(data_key)
            .map_err(|_| SealError(format!("a data key of {} bytes", data_key.len())))?;
        Ok(Sealer {
            cipher,
            bound: format!("{origin}|{sid}|").into_bytes(),
        })
    }

    /// The ciphertext of chunk `number`.
    pub fn seal(&self, number: u64, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut out = Vec::new();
        self.seal_into(&mut out, number, plain, None)?;
        Ok(out)
    }

    /// Appends the ciphertext of chunk `number`; with a base, packed against the plain text of the chunk its record names as such.
    pub fn seal_into(
        &self,
        out: &mut Vec<u8>,
        number: u64,
        plain: &[u8],
        base: Option<&[u8]>,
    ) -> Result<(), SealError> {
        check_size(plain)?;
        BENCH.with_borrow_mut(|kept| {
            let bench = match kept {
                Some(bench) => bench,
                None => kept.insert(Bench::new()?),
            };
            bench.pack(plain, base.unwrap_or_default())?;
            bench.bound.clear();
            bench.bound.extend_from_slice(&self.bound);
            push_number(&mut bench.bound, number);
            let mut nonce = [0u8; NONCE_BYTES];
            nonce[NONCE_BYTES - 8..].copy_from_slice(&number.to_be_bytes());
            let start = out.len();
            out.extend_from_slice(&bench.packed);
            let sealed = self.cipher.encrypt_inout_detached(
                &nonce.into(),
                &bench.bound,
                (&mut out[start..]).into(),
            );
            let tag = sealed.map_err(|_| SealError("a chunk could not be encrypted".to_owned()))?;
            out.extend_from_slice(&tag);
            bench.packed.shrink_to(MAX_KEPT_BYTES);
            Ok(())
        })
    }
}

impl Bench {
    fn new() -> Result<Bench, SealError> {
        let none = || SealError("a compressor could not be made".to_owned());
        Ok(Bench {
            compressor: CCtx::try_create().ok_or_else(none)?,
            packed: Vec::new(),
            bound: Vec::new(),
        })
    }

    fn pack(&mut self, plain: &[u8], base: &[u8]) -> Result<(), SealError> {
        self.packed.clear();
        self.packed.reserve(zstd_safe::compress_bound(plain.len()));
        let written = if base.len() < MIN_BASE_BYTES {
            self.compressor.compress(&mut self.packed, plain, LEVEL)
        } else {
            self.compressor
                .compress_using_dict(&mut self.packed, plain, base, LEVEL)
        };
        written.map(|_| ()).map_err(|code| {
            let why = zstd_safe::get_error_name(code);
            SealError(format!("a chunk could not be packed: {why}"))
        })
    }
}

/// Whether a plain text can be one chunk.
pub(crate) fn check_size(plain: &[u8]) -> Result<(), SealError> {
    if plain.len() > MAX_BLOB_BYTES {
        return Err(SealError(format!(
            "a chunk of {} bytes is too large; the limit is {MAX_BLOB_BYTES}",
            plain.len()
        )));
    }
    Ok(())
}

/// SHA-256.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

/// HMAC-SHA256 of the SHA-256 of `material` under a session's salt: what a record holds of an action's digest.
pub fn commit(salt: &[u8], material: &[u8]) -> Result<[u8; 32], SealError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(salt)
        .map_err(|_| SealError("a salt of no length".to_owned()))?;
    mac.update(&sha256(material));
    Ok(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes_gcm::aead::{Aead, Payload};

    fn open(sealed: &[u8], number: u64, base: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        let bound = format!("o|s|{number}");
        let payload = Payload {
            msg: sealed,
            aad: bound.as_bytes(),
        };
        let cipher = Aes256Gcm::new_from_slice(&[1; 32]).unwrap();
        let packed = cipher.decrypt(&nonce.into(), payload).unwrap();
        let mut unpacker = zstd::bulk::Decompressor::with_dictionary(base).unwrap();
        unpacker.decompress(&packed, MAX_BLOB_BYTES).unwrap()
    }

    #[test]
    fn a_chunk_that_repeats_its_base_takes_little_room() {
        let sealer = Sealer::new(&[1; 32], "o", "s").unwrap();
        let words = (0..400).map(|number| (number * 7919 % 1000).to_string());
        let base = words.collect::<Vec<_>>().join(",").into_bytes();
        let mut plain = base.clone();
        plain[700] = b'x';
        let mut out = b"before".to_vec();
        for number in [7, 300] {
            out.truncate(6);
            sealer
                .seal_into(&mut out, number, &plain, Some(&base))
                .unwrap();
            assert!(
                out.starts_with(b"before") && out.len() < 100,
                "{}",
                out.len()
            );
            assert_eq!(open(&out[6..], number, &base), plain);
        }
        let alone = sealer.seal(8, &plain).unwrap();
        assert!(alone.len() > 500);
        assert_eq!(open(&alone, 8, b""), plain);
        sealer.seal_into(&mut out, 9, b"{}", Some(b"{")).unwrap();
        assert!(sealer.seal(10, &vec![0; MAX_BLOB_BYTES + 1]).is_err());
    }
}
