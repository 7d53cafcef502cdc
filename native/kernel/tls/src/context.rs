//! What connections of one kind have in common: certificates, versions, ciphers, how a peer is checked.
use std::net::IpAddr;

use openssl::pkey::PKey;
use openssl::ssl::{
    select_next_proto, AlpnError, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode,
    SslOptions, SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::verify::X509CheckFlags;
use openssl::x509::X509;

use crate::{Channel, Failure};

/// Ciphers of TLS 1.2: forward secrecy only. Level 2 refuses keys and digests below 112 bits of strength.
const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES:\
                       !aNULL:!eNULL:!aDSS:!SHA1:!AESCCM:@SECLEVEL=2";

/// How a server's certificate is checked: libpq's modes of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Not at all: encrypted, to whoever answers.
    Require,
    /// It comes from a trusted authority.
    VerifyCa,
    /// And it is for the name that was dialled.
    VerifyFull,
}

/// For listeners.
pub struct ServerContext {
    inner: SslContext,
}

impl ServerContext {
    /// A listener with this certificate (PEM, its own first) and key (PEM, unencrypted).
    ///
    /// `alpn` is the one protocol name it agrees to. A client that asks for others alone is refused (RFC 7301 3.2); one that asks for
    /// none goes on without.
    pub fn new(chain: &[u8], key: &[u8], alpn: Option<&[u8]>) -> Result<ServerContext, Failure> {
        let mut builder = begin(SslMethod::tls_server())?;
        show(&mut builder, chain, key)?;
        // A ticket lets a client come back without a handshake: PostgreSQL's and other clients of a gateway have no use for it.
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        builder.set_options(SslOptions::NO_TICKET | SslOptions::CIPHER_SERVER_PREFERENCE);
        builder.set_num_tickets(0)?;
        if let Some(name) = alpn {
            let ours = wire_form(name)?;
            builder.set_alpn_select_callback(move |_, theirs| {
                let chosen = select_next_proto(&ours, theirs).ok_or(AlpnError::ALERT_FATAL)?;
                // What was chosen is the same name in either list; the client's lives as long as the answer must.
                let at = theirs.windows(chosen.len()).position(|part| part == chosen);
                at.map(|at| &theirs[at..at + chosen.len()])
                    .ok_or(AlpnError::ALERT_FATAL)
            });
        }
        let inner = builder.build();
        Ok(ServerContext { inner })
    }

    /// A channel to a client that is about to begin.
    pub fn accept(&self) -> Result<Channel, Failure> {
        let mut ssl = Ssl::new(&self.inner)?;
        ssl.set_accept_state();
        Channel::new(ssl)
    }
}

/// For connections to servers.
pub struct ClientContext {
    inner: SslContext,
    checks: Checks,
}

impl ClientContext {
    /// Connections that check servers this way.
    ///
    /// `authorities` are trusted certificates (PEM), None for the system's; `own` the certificate chain and key (PEM) that are shown to a
    /// server that asks.
    pub fn new(
        checks: Checks,
        authorities: Option<&[u8]>,
        own: Option<(&[u8], &[u8])>,
    ) -> Result<ClientContext, Failure> {
        let mut builder = begin(SslMethod::tls_client())?;
        if let Some((chain, key)) = own {
            show(&mut builder, chain, key)?;
        }
        if checks == Checks::Require {
            builder.set_verify(SslVerifyMode::NONE);
        } else {
            builder.set_verify(SslVerifyMode::PEER);
            match authorities {
                None => builder.set_default_verify_paths()?,
                Some(pem) => {
                    for certificate in read_certificates(pem)? {
                        builder.cert_store_mut().add_cert(certificate)?;
                    }
                }
            }
        }
        let inner = builder.build();
        Ok(ClientContext { inner, checks })
    }

    /// A channel to the server dialled as `host`, a name or an address.
    pub fn connect(&self, host: &str) -> Result<Channel, Failure> {
        // A leading dot would stand for every name below it (X509_check_host).
        if !host.is_ascii() || host.starts_with('.') {
            return Err(Failure::new(
                "not the name of a host; others than ASCII are written xn--",
            ));
        }
        let mut ssl = Ssl::new(&self.inner)?;
        let address = host.parse::<IpAddr>().ok();
        if address.is_none() {
            ssl.set_hostname(host)?; // RFC 6066 3: names only
        }
        if self.checks == Checks::VerifyFull {
            let parameters = ssl.param_mut();
            parameters.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
            match address {
                Some(address) => parameters.set_ip(address)?,
                None => parameters.set_host(host)?,
            }
        }
        ssl.set_connect_state();
        Channel::new(ssl)
    }
}

fn begin(method: SslMethod) -> Result<SslContextBuilder, Failure> {
    let mut builder = SslContextBuilder::new(method)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_cipher_list(CIPHERS)?;
    builder.set_options(SslOptions::NO_COMPRESSION | SslOptions::NO_RENEGOTIATION);
    // Buffers are given back while nothing arrives: an idle connection should cost little.
    builder.set_mode(SslMode::RELEASE_BUFFERS | SslMode::ACCEPT_MOVING_WRITE_BUFFER);
    Ok(builder)
}

fn show(builder: &mut SslContextBuilder, chain: &[u8], key: &[u8]) -> Result<(), Failure> {
    let mut certificates = read_certificates(chain)?.into_iter();
    if let Some(own) = certificates.next() {
        builder.set_certificate(&own)?;
    }
    for authority in certificates {
        builder.add_extra_chain_cert(authority)?;
    }
    // A passphrase is never asked for: nobody sits in front of a gateway.
    let mut is_encrypted = false;
    let key = PKey::private_key_from_pem_callback(key, |_| {
        is_encrypted = true;
        Ok(0)
    });
    let key = match key {
        Err(_) if is_encrypted => return Err(Failure::new("the key is encrypted")),
        other => other?,
    };
    builder.set_private_key(&key)?;
    builder.check_private_key()?;
    Ok(())
}

fn read_certificates(pem: &[u8]) -> Result<Vec<X509>, Failure> {
    let certificates = X509::stack_from_pem(pem)?;
    if certificates.is_empty() {
        return Err(Failure::new("no certificate in the file"));
    }
    Ok(certificates)
}

/// A protocol name as ALPN lists have it (RFC 7301 3.1).
fn wire_form(name: &[u8]) -> Result<Vec<u8>, Failure> {
    let length = u8::try_from(name.len()).map_err(|_| Failure::new("the name is too long"))?;
    Ok([&[length], name].concat())
}
