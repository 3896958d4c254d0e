//! Templates, credentials and tokens.

use super::*;

#[test]
fn templates_substitute_three_names_and_nothing_else() {
    let fill = |text: &str| Template::parse(text).map(|t| t.fill("T", "E", "P"));
    assert_eq!(fill("$(access_token) $(expires_at) $(portal_url)").unwrap(), "T E P");
    assert_eq!(fill("$$(access_token) $x ${y} $").unwrap(), "$(access_token) $x ${y} $");
    assert_eq!(fill("$$$(access_token)").unwrap(), "$T");
    assert_eq!(fill("a$(access_token)b$(expires_at)").unwrap(), "aTbE");
    assert_eq!((fill("").unwrap(), fill("$").unwrap()), (String::new(), "$".to_owned()));
    for bad in ["$(other)", "$(access_token", "$()"] {
        assert!(fill(bad).is_err(), "{bad}");
    }
}

#[test]
fn credentials_are_trimmed_and_must_be_visible_text() {
    let keys = crate::api::CredentialsRef {
        name: "s".to_owned(),
        client_id_key: "client_id".to_owned(),
        client_secret_key: "client_secret".to_owned(),
    };
    let read = |secret: &[u8]| {
        let bytes = |b: &[u8]| k8s_openapi::ByteString(b.to_vec());
        let data = [("client_id".to_owned(), bytes(b" id\n")), ("client_secret".to_owned(), bytes(secret))];
        Credentials::read(&data.into(), &keys).map(|c| (c.id().to_owned(), c.secret().to_owned()))
    };
    assert_eq!(read(b"\t secret \r\n"), Ok(("id".to_owned(), "secret".to_owned())));
    assert_eq!(read(&[b'a'; 4096]).unwrap().1.len(), 4096);
    for (bad, cause) in [
        (&b""[..], Cause::Empty),
        (b"  ", Cause::Empty),
        (b"a b", Cause::NotText),
        (b"a\0b", Cause::NotText),
        (b"\xff\xfe", Cause::NotText),
        (b"\xef\xbb\xbfa", Cause::NotText),
        (&[b'a'; 4097], Cause::NotText),
    ] {
        assert_eq!(read(bad), Err(CredentialsError { key: "client_secret".to_owned(), cause }));
    }
}

#[test]
fn a_digest_distinguishes_credentials_within_one_process_only() {
    let keys = crate::api::CredentialsRef {
        name: "s".to_owned(),
        client_id_key: "i".to_owned(),
        client_secret_key: "s".to_owned(),
    };
    let read = |id: &str, secret: &str| {
        let bytes = |text: &str| k8s_openapi::ByteString(text.into());
        Credentials::read(&[("i".to_owned(), bytes(id)), ("s".to_owned(), bytes(secret))].into(), &keys).unwrap()
    };
    let digester = Digester::default();
    let digest = |id, secret| digester.digest(&read(id, secret));
    assert_eq!(digest("a", "b"), digest("a", "b"));
    assert_ne!(digest("a", "b"), digest("a", "c"));
    assert_ne!(digest("a", "b"), digest("c", "b"));
    assert_ne!(digest("ab", "c"), digest("a", "bc"));
    assert_ne!(digest("a", "b"), Digester::default().digest(&read("a", "b")));
}

#[test]
fn a_token_has_the_characters_of_a_bearer_token_and_a_maximum_length() {
    let takes = |text: &str| AccessToken::parse(text.to_owned()).is_some_and(|token| token.expose() == text);
    assert!(["a", "AZaz09._~+/-", "a=", "a=="].into_iter().all(takes));
    assert!(!["", "=", "a=b", "a b", "a\n", "a\"", "a$", "\u{e4}"].into_iter().any(takes));
    assert!(takes(&"a".repeat(16_384)) && !takes(&"a".repeat(16_385)));
}
