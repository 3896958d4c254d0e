//! A template is rejected, or each of its placeholders is substituted and nothing else changes.
#![no_main]

use arcgis_credential_operator::core::Template;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(template) = Template::parse(text) else { return };
    let plain = template.fill("", "", "");
    let filled = template.fill("\u{1}", "\u{2}", "\u{3}");
    if !text.contains(['\u{1}', '\u{2}', '\u{3}']) {
        assert_eq!(filled.replace(['\u{1}', '\u{2}', '\u{3}'], ""), plain);
        let holds = |name: &str| text.contains(name);
        assert!(!filled.contains('\u{1}') || holds("$(access_token)"));
        assert!(!filled.contains('\u{2}') || holds("$(expires_at)"));
        assert!(!filled.contains('\u{3}') || holds("$(portal_url)"));
    }
    // A text without a dollar sign does not change.
    assert!(text.contains('$') || plain == text);
});
