//! Webhooks as strangers could send them. An input is the signature, a line break, and the body.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use secrecy::SecretString;
use sha2::Sha256;

use super::signature::verify;
use super::{TOLERANCE, parse};
use waybill_domain::payment_account::PaymentAccount;

use crate::fuzz::{corpus, fuzz};

const NOW_SECS: i64 = 1_795_348_060;
const SECRET: &str = "whsec_one";

#[test]
fn whatever_a_webhook_is_it_is_believed_only_as_it_was_signed_and_read_only_with_clean_names() {
    let secrets = [SecretString::from(SECRET)];
    let now = Timestamp::from_second(NOW_SECS).unwrap();
    let inputs: Vec<Vec<u8>> = corpus("webhooks").iter().map(|input| signed(input)).collect();
    let genuine: Vec<(String, &[u8])> = inputs.iter().filter_map(|input| genuine(input)).collect();
    fuzz(&inputs, |input| {
        let (header, body) = parts(input);
        if verify(header, body, &secrets, now, TOLERANCE).is_ok() {
            let header = str::from_utf8(header).unwrap().to_ascii_lowercase();
            let is_as_signed = |(proof, signed): &(String, &[u8])| *signed == body && header.contains(proof);
            assert!(genuine.iter().any(is_as_signed), "believed, and not as it was signed");
        }
        if let Some(event) = parse(&PaymentAccount::default(), body) {
            let names = [Some(event.id), Some(event.kind), event.payment];
            let object = event.reconciles.map(|object| [object.id, object.status]);
            for name in names.into_iter().flatten().chain(object.into_iter().flatten()) {
                let is_clean = name.bytes().all(|byte| byte.is_ascii_graphic());
                assert!(is_clean && (1..=255).contains(&name.len()), "{name:?}");
            }
        }
    });
    let believed = inputs.iter().map(|input| parts(input));
    let believed = believed.filter(|(header, body)| verify(header, body, &secrets, now, TOLERANCE).is_ok());
    assert!(believed.count() >= 3, "what is genuine is believed");
}

fn parts(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    (&input[..end], input.get(end + 1..).unwrap_or_default())
}

/// The input, with `{signature}` in its header replaced by what the provider would have put there.
fn signed(input: &[u8]) -> Vec<u8> {
    let (header, body) = parts(input);
    let Ok(header) = str::from_utf8(header) else {
        return input.to_vec();
    };
    let time = header.split(['=', ',']).nth(1).unwrap_or_default();
    let signature = signature(time, body);
    let header = header
        .replace("{signature}", &signature)
        .replace("{SIGNATURE}", &signature.to_ascii_uppercase());
    [header.as_bytes(), b"\n", body].concat()
}

/// The signature that has to be in the header, and the body that it is of.
fn genuine(input: &[u8]) -> Option<(String, &[u8])> {
    let (header, body) = parts(input);
    let time = str::from_utf8(header).ok()?.split(['=', ',']).nth(1)?;
    let away = time.parse::<i64>().ok()?.abs_diff(NOW_SECS);
    (away <= TOLERANCE.as_secs()).then(|| (format!("v1={}", signature(time, body)), body))
}

fn signature(time: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}
