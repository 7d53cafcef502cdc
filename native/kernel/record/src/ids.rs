//! Random decision ids, taken from the system a page at a time.
use crate::SealError;

const BUFFER_BYTES: usize = 512;

/// A source of version 4 UUIDs.
pub struct Ids {
    buffer: [u8; BUFFER_BYTES],
    at: usize,
}

impl Default for Ids {
    fn default() -> Ids {
        Ids {
            buffer: [0; BUFFER_BYTES],
            at: BUFFER_BYTES,
        }
    }
}

impl Ids {
    /// The next id, as text. Fails only when the system has no random bytes.
    pub fn next_id(&mut self) -> Result<String, SealError> {
        if self.at == BUFFER_BYTES {
            getrandom::fill(&mut self.buffer)
                .map_err(|error| SealError(format!("no random bytes: {error}")))?;
            self.at = 0;
        }
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&self.buffer[self.at..self.at + 16]);
        self.at += 16;
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let mut text = Vec::with_capacity(36);
        for (index, byte) in bytes.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push(b'-');
            }
            crate::push_hex(&mut text, &[*byte]);
        }
        String::from_utf8(text).map_err(|error| SealError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_uuids() {
        let mut ids = Ids::default();
        let made: std::collections::BTreeSet<String> =
            (0..100).map(|_| ids.next_id().unwrap()).collect();
        assert_eq!(made.len(), 100);
        for id in made {
            assert_eq!(id.len(), 36);
            assert_eq!(&id[14..15], "4");
            assert!("89ab".contains(&id[19..20]));
        }
    }
}
