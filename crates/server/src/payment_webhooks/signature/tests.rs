//! Every way in which a webhook can fail to be from the provider, now.

use super::*;

const BODY: &[u8] = br#"{"id":"evt_1","object":"event"}"#;
const NOW_SECS: i64 = 1_795_348_060;
const TOLERANCE: Duration = Duration::from_mins(5);

fn secrets(texts: &[&str]) -> Vec<SecretString> {
    texts.iter().map(|text| SecretString::from(*text)).collect()
}

/// The hex of a signature, made without the code under test's own parsing.
fn signed(secret: &str, t: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(t.as_bytes());
    mac.update(b".");
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn header_at(secs: i64) -> String {
    format!("t={secs},v1={}", signed("whsec_one", &secs.to_string(), BODY))
}

fn check(header: &str, body: &[u8], secret_texts: &[&str]) -> Result<(), SignatureError> {
    let now = Timestamp::from_second(NOW_SECS).unwrap();
    verify(header.as_bytes(), body, &secrets(secret_texts), now, TOLERANCE)
}

fn check_one(header: &str) -> Result<(), SignatureError> {
    check(header, BODY, &["whsec_one"])
}

/// Computed once with OpenSSL: `printf '1795348060.{}' | openssl dgst -sha256 -hmac whsec_one`.
#[test]
fn a_signature_made_by_another_program_is_accepted() {
    let header = "t=1795348060,v1=371f107f4b278d588149cf7108a798efe66e352fd40b8c9397c92c39a0261541";
    assert_eq!(check(header, b"{}", &["whsec_one"]), Ok(()));
}

#[test]
fn what_the_provider_signed_just_now_is_accepted() {
    assert_eq!(check_one(&header_at(NOW_SECS)), Ok(()));
}

#[test]
fn another_secret_is_a_forgery() {
    assert_eq!(
        check(&header_at(NOW_SECS), BODY, &["whsec_two"]),
        Err(SignatureError::Forged)
    );
    assert_eq!(check(&header_at(NOW_SECS), BODY, &[""]), Err(SignatureError::Forged));
}

#[test]
fn without_secrets_nothing_is_accepted() {
    assert_eq!(check(&header_at(NOW_SECS), BODY, &[]), Err(SignatureError::Forged));
}

#[test]
fn an_altered_body_is_refused() {
    let altered = br#"{"id":"evt_2","object":"event"}"#;
    assert_eq!(
        check(&header_at(NOW_SECS), altered, &["whsec_one"]),
        Err(SignatureError::Forged)
    );
    assert_eq!(
        check(&header_at(NOW_SECS), b"", &["whsec_one"]),
        Err(SignatureError::Forged)
    );
}

#[test]
fn an_altered_time_is_refused() {
    let old = NOW_SECS - 3600;
    let fresh = header_at(old).replace(&old.to_string(), &NOW_SECS.to_string());
    assert_eq!(check_one(&fresh), Err(SignatureError::Forged));
    // The same number in another spelling is another text, and so is what was signed.
    for respelt in ["t=+", "t=0", "t= "] {
        let header = header_at(NOW_SECS).replace("t=", respelt);
        assert!(check_one(&header).is_err(), "{header}");
    }
}

/// The dot between time and body belongs to neither: moving it must not make one signature fit two messages.
#[test]
fn a_digit_cannot_move_from_the_body_to_the_time() {
    let header = format!("t=1795348060,v1={}", signed("whsec_one", "179534806", b"0.{}"));
    assert_eq!(check(&header, b"{}", &["whsec_one"]), Err(SignatureError::Forged));
}

#[test]
fn the_edges_of_the_tolerance_are_within_it_and_one_second_more_is_not() {
    for (away, verdict) in [
        (300, Ok(())),
        (-300, Ok(())),
        (301, Err(SignatureError::NotNow(301))),
        (-301, Err(SignatureError::NotNow(301))),
        (-86_400, Err(SignatureError::NotNow(86_400))),
        (86_400, Err(SignatureError::NotNow(86_400))),
    ] {
        assert_eq!(check_one(&header_at(NOW_SECS + away)), verdict, "{away} s away");
    }
    for far in [i64::MIN, i64::MAX] {
        assert!(
            matches!(check_one(&header_at(far)), Err(SignatureError::NotNow(_))),
            "{far}"
        );
    }
}

#[test]
fn a_forgery_of_long_ago_is_called_a_forgery() {
    let header = header_at(NOW_SECS - 86_400);
    assert_eq!(check(&header, BODY, &["whsec_two"]), Err(SignatureError::Forged));
}

#[test]
fn one_fitting_signature_of_several_is_enough_wherever_it_stands() {
    let good = signed("whsec_one", &NOW_SECS.to_string(), BODY);
    let other = signed("whsec_gone", &NOW_SECS.to_string(), BODY);
    for signatures in [[&good, &other], [&other, &good]] {
        let header = format!("t={NOW_SECS},v1={},v1={}", signatures[0], signatures[1]);
        assert_eq!(check_one(&header), Ok(()), "{header}");
    }
    let header = format!("t={NOW_SECS},v1={other},v1={other}");
    assert_eq!(check_one(&header), Err(SignatureError::Forged));
    let header = format!("v1={good},t={NOW_SECS}");
    assert_eq!(check_one(&header), Ok(()), "in any order");
}

#[test]
fn while_a_secret_is_replaced_both_are_good() {
    for order in [["whsec_one", "whsec_two"], ["whsec_two", "whsec_one"]] {
        assert_eq!(check(&header_at(NOW_SECS), BODY, &order), Ok(()));
    }
}

#[test]
fn the_scheme_of_test_events_proves_nothing() {
    let good = signed("whsec_one", &NOW_SECS.to_string(), BODY);
    for scheme in ["v0", "v2", "V1", "v"] {
        let header = format!("t={NOW_SECS},{scheme}={good}");
        assert_eq!(check_one(&header), Err(SignatureError::Malformed), "{scheme}");
    }
    let header = format!("t={NOW_SECS},v0={good},v1={good}");
    assert_eq!(check_one(&header), Ok(()), "ignored, not refused");
}

/// Hex is hex: the bytes are compared, not the letters.
#[test]
fn upper_case_hex_is_the_same_signature() {
    let good = signed("whsec_one", &NOW_SECS.to_string(), BODY).to_uppercase();
    assert_eq!(check_one(&format!("t={NOW_SECS},v1={good}")), Ok(()));
}

#[test]
fn what_is_not_of_the_form_is_refused() {
    let good = signed("whsec_one", &NOW_SECS.to_string(), BODY);
    let long = format!("{good}00");
    for header in [
        String::new(),
        ",".to_owned(),
        "t".to_owned(),
        "=".to_owned(),
        good.clone(),
        format!("v1={good}"),
        format!("t=,v1={good}"),
        format!("t=now,v1={good}"),
        format!("t={NOW_SECS}"),
        format!("t={NOW_SECS},v1="),
        format!("t={NOW_SECS},v1={}", &good[..62]),
        format!("t={NOW_SECS},v1={}", &good[..63]),
        format!("t={NOW_SECS},v1={long}"),
        format!("t={NOW_SECS},v1={}", good.replace(|_| true, "g")),
        format!("t={NOW_SECS},v1={}", "é".repeat(32)),
        format!("t={NOW_SECS};v1={good}"),
        // Which of the two was signed?
        format!("t={NOW_SECS},t={NOW_SECS},v1={good}"),
        format!("t=99999999999999999999,v1={good}"),
    ] {
        assert_eq!(check_one(&header), Err(SignatureError::Malformed), "{header}");
    }
    let now = Timestamp::from_second(NOW_SECS).unwrap();
    let not_text = b"t=\xff\xfe,v1=00";
    assert_eq!(
        verify(not_text, BODY, &secrets(&["whsec_one"]), now, TOLERANCE),
        Err(SignatureError::Malformed)
    );
}

#[test]
fn a_huge_header_is_refused_although_a_good_signature_is_in_it() {
    let good = header_at(NOW_SECS);
    let filler = format!(",v1={}", "0".repeat(64));
    let fits = format!("{good}{}", filler.repeat(10));
    assert!(fits.len() <= HEADER_BYTES_MAX);
    assert_eq!(check_one(&fits), Ok(()));
    let huge = format!("{good}{}", filler.repeat(10_000));
    assert_eq!(check_one(&huge), Err(SignatureError::Malformed));
}
