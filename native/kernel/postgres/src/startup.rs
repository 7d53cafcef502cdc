//! The first packet of a connection: no type byte, an Int32 length, then a version or request code (55.2.1, 55.7).
use crate::wire::Cursor;
use crate::Violation;

/// The largest first packet PostgreSQL itself reads (MAX_STARTUP_PACKET_LENGTH).
pub const MAX_STARTUP_BYTES: usize = 10_000;

const CANCEL_REQUEST: (u16, u16) = (1234, 5678);
const SSL_REQUEST: (u16, u16) = (1234, 5679);
const GSSENC_REQUEST: (u16, u16) = (1234, 5680);

/// The longest cancel key of protocol 3.2; 3.0 has exactly four bytes.
const MAX_CANCEL_KEY_BYTES: usize = 256;

/// What a client asked for with its first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Startup {
    /// TLS, please.
    Ssl,
    /// GSSAPI encryption, please.
    GssEnc,
    /// Cancel what the named backend is doing.
    Cancel {
        /// The process number of BackendKeyData.
        pid: i32,
        /// Its secret key: 4 bytes in protocol 3.0, up to 256 in 3.2.
        secret: Vec<u8>,
    },
    /// A session.
    Session {
        /// Major protocol version; always 3.
        major: u16,
        /// Minor protocol version as asked for.
        minor: u16,
        /// Parameters in the order given, each name once.
        params: Vec<(String, String)>,
    },
}

/// Reads the first packet of `data`, returning it and the bytes it took; none while its end is missing.
pub fn parse_startup(data: &[u8], max_bytes: usize) -> Result<Option<(Startup, usize)>, Violation> {
    let Some(head) = data.get(..4) else {
        return Ok(None);
    };
    let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let length = usize::try_from(length).ok().filter(|length| *length >= 8);
    let Some(length) = length else {
        return Err(Violation::malformed(
            "a startup packet too short for a protocol version",
        ));
    };
    if length > max_bytes {
        return Err(Violation::too_large(format!(
            "a startup packet of {length} bytes is over the limit of {max_bytes} bytes"
        )));
    }
    if data.len() < length {
        return Ok(None);
    }
    let mut body = Cursor::new(&data[4..length], "a startup packet");
    let version = (body.uint16()?, body.uint16()?);
    let startup = match version {
        SSL_REQUEST => Startup::Ssl,
        GSSENC_REQUEST => Startup::GssEnc,
        CANCEL_REQUEST => parse_cancel(&mut body)?,
        (3, minor) => Startup::Session {
            major: 3,
            minor,
            params: parse_params(&mut body)?,
        },
        (major, minor) => {
            let message =
                format!("protocol version {major}.{minor} is not supported, only version 3");
            return Err(Violation::unexpected(message));
        }
    };
    body.end()?;
    Ok(Some((startup, length)))
}

fn parse_cancel(body: &mut Cursor<'_>) -> Result<Startup, Violation> {
    let pid = body.int32()?;
    let secret = body.rest().to_vec();
    if secret.len() < 4 || secret.len() > MAX_CANCEL_KEY_BYTES {
        return Err(Violation::malformed(
            "a cancel request whose key is not 4 to 256 bytes long",
        ));
    }
    Ok(Startup::Cancel { pid, secret })
}

fn parse_params(body: &mut Cursor<'_>) -> Result<Vec<(String, String)>, Violation> {
    let mut params: Vec<(String, String)> = Vec::new();
    loop {
        let name = body.string()?;
        if name.is_empty() {
            return Ok(params);
        }
        let value = body.string()?;
        // The server would take the last of two; a reader that takes the first would see another user or database.
        if params.iter().any(|(known, _)| known == name) {
            return Err(Violation::malformed(
                "a startup packet that names a parameter twice",
            ));
        }
        params.push((name.to_owned(), value.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;

    #[test]
    fn requests_and_sessions() {
        assert_eq!(
            parse_startup(&[0, 0, 0, 8, 4, 210, 22, 47], 100).unwrap(),
            Some((Startup::Ssl, 8))
        );
        assert_eq!(
            parse_startup(&[0, 0, 0, 8, 4, 210, 22, 48], 100).unwrap(),
            Some((Startup::GssEnc, 8))
        );
        let cancel = [&[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7], &b"1234"[..]].concat();
        let expected = Startup::Cancel {
            pid: 7,
            secret: b"1234".to_vec(),
        };
        assert_eq!(parse_startup(&cancel, 100).unwrap(), Some((expected, 16)));
        let params = vec![
            ("user".to_owned(), "a".to_owned()),
            ("database".to_owned(), "b".to_owned()),
        ];
        let mut packet = encode::startup(2, &params);
        packet.push(b'x');
        let expected = Startup::Session {
            major: 3,
            minor: 2,
            params,
        };
        assert_eq!(
            parse_startup(&packet, 100).unwrap(),
            Some((expected, packet.len() - 1))
        );
    }

    #[test]
    fn short_large_old_and_doubled_are_refused() {
        assert_eq!(parse_startup(&[0, 0, 0], 100).unwrap(), None);
        assert_eq!(parse_startup(&[0, 0, 0, 9, 0, 3, 0, 0], 100).unwrap(), None);
        assert_eq!(
            parse_startup(&[0, 0, 0, 7], 100).unwrap_err().code,
            crate::Code::Malformed
        );
        assert_eq!(
            parse_startup(&[0, 0, 0, 101], 100).unwrap_err().code,
            crate::Code::TooLarge
        );
        assert_eq!(
            parse_startup(&[0, 0, 0, 8, 0, 2, 0, 0], 100)
                .unwrap_err()
                .code,
            crate::Code::Unexpected
        );
        assert_eq!(
            parse_startup(&[0, 0, 0, 9, 4, 210, 22, 47, 0], 100)
                .unwrap_err()
                .code,
            crate::Code::Malformed
        );
        let twice = encode::startup(
            0,
            &[
                ("user".to_owned(), "a".to_owned()),
                ("user".to_owned(), "b".to_owned()),
            ],
        );
        assert_eq!(
            parse_startup(&twice, 100).unwrap_err().code,
            crate::Code::Malformed
        );
    }
}
