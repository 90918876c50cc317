//! Whether a webhook is from the payment provider: Stripe's signature of the raw body
//! (<https://docs.stripe.com/webhooks#verify-manually>). Pure: body, secrets and time are arguments.
//!
//! `Stripe-Signature: t=<seconds since 1970>,v1=<hex of HMAC-SHA256(secret, "<t>.<body>")>[,v1=…][,v0=…]`. There are
//! several `v1` while a secret is being replaced. `v0` is of test events and proves nothing; other schemes are
//! ignored.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use thiserror::Error;

/// Stripe's have some 90 bytes with one signature. This is room for a dozen.
const HEADER_BYTES_MAX: usize = 1024;
/// SHA-256 gives so many bytes.
const SIGNATURE_BYTES: usize = 32;

/// Why a webhook is refused. The text is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// It does not have the form of a signature, or none of scheme `v1`.
    #[error("the signature header is missing or malformed")]
    Malformed,
    /// Signed by someone else, or altered since.
    #[error("no signature matches any of payments.webhook_secrets")]
    Forged,
    /// Genuine, and too far from our clock: a replay, or a clock is wrong.
    #[error("it was signed {0} s away from our clock")]
    NotNow(u64),
}

/// Checks that `header` signs `body` with one of `secrets`, no further than `tolerance` from `now`, before or after.
///
/// The time is judged last: it means something only for a genuine signature. Signatures are compared in constant time.
pub fn verify(
    header: &[u8],
    body: &[u8],
    secrets: &[SecretString],
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), SignatureError> {
    let signed = SignatureHeader::parse(header).ok_or(SignatureError::Malformed)?;
    if !secrets.iter().any(|secret| signed.is_of(body, secret)) {
        return Err(SignatureError::Forged);
    }
    let away_secs = now.as_second().abs_diff(signed.signed_at_secs);
    if away_secs > tolerance.as_secs() {
        return Err(SignatureError::NotNow(away_secs));
    }
    Ok(())
}

/// A parsed header.
struct SignatureHeader<'header> {
    /// The time as it was written: this text was signed.
    time: &'header str,
    signed_at_secs: i64,
    /// Of scheme `v1`, at least one.
    signatures: Vec<[u8; SIGNATURE_BYTES]>,
}

impl SignatureHeader<'_> {
    fn parse(header: &[u8]) -> Option<SignatureHeader<'_>> {
        if header.len() > HEADER_BYTES_MAX {
            return None;
        }
        let mut time = None;
        let mut signatures = Vec::new();
        for item in str::from_utf8(header).ok()?.split(',') {
            match item.split_once('=')? {
                // With two times it is unclear which was signed.
                ("t", text) if time.replace(text).is_some() => return None,
                ("v1", hex) => signatures.push(bytes_of_hex(hex)?),
                _ => {}
            }
        }
        let time = time?;
        (!signatures.is_empty()).then_some(SignatureHeader {
            time,
            signed_at_secs: time.parse().ok()?,
            signatures,
        })
    }

    /// Whether one of the signatures is of `body`, at this time, under `secret`.
    fn is_of(&self, body: &[u8], secret: &SecretString) -> bool {
        // A key of any length will do for HMAC, so this does not fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) else {
            return false;
        };
        mac.update(self.time.as_bytes());
        mac.update(b".");
        mac.update(body);
        self.signatures
            .iter()
            .any(|signature| mac.clone().verify_slice(signature).is_ok())
    }
}

fn bytes_of_hex(hex: &str) -> Option<[u8; SIGNATURE_BYTES]> {
    let mut bytes = [0; SIGNATURE_BYTES];
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |letter: u8| char::from(letter).to_digit(16);
        *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
