//! Sealing chunks, and the digests records hold (`docs/evidence-format.md`, section 6).
use std::cell::RefCell;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

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

thread_local! {
    /// Making a compressor costs more than a small chunk.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
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
        check_size(plain)?;
        let packed = compress(plain)?;
        let (nonce, bound) = self.binding(number);
        let payload = Payload {
            msg: &packed,
            aad: &bound,
        };
        self.cipher
            .encrypt(&nonce, payload)
            .map_err(|_| SealError("a chunk could not be encrypted".to_owned()))
    }

    fn binding(&self, number: u64) -> (Nonce<aes_gcm::aead::consts::U12>, Vec<u8>) {
        let mut nonce = [0u8; NONCE_BYTES];
        nonce[NONCE_BYTES - 8..].copy_from_slice(&number.to_be_bytes());
        let mut bound = self.bound.clone();
        push_number(&mut bound, number);
        (nonce.into(), bound)
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

fn compress(plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let failed = |error: std::io::Error| SealError(format!("a chunk could not be packed: {error}"));
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(zstd::bulk::Compressor::new(LEVEL).map_err(failed)?),
        };
        compressor.compress(plain).map_err(failed)
    })
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
