//! What Helm prints after an installation.

use std::process::Command;

use arcgis_credential_operator::api::ArcGisAppCredential;

use super::render::{CHART, IMAGE, NAME, helm};
use crate::support::tools::succeed;

/// Returns the notes of an installation with these values.
fn notes(values: &str) -> String {
    let home = tempfile::TempDir::new().unwrap();
    let install = ["install", NAME, CHART, "--namespace", NAME, "--dry-run=client", "--values=-", IMAGE];
    let printed = helm(home.path(), &install, values);
    assert!(printed.success, "{values}: {}", printed.err);
    printed.out.split_once("\nNOTES:\n").unwrap().1.to_owned()
}

/// Returns what bash gives to `kubectl apply` when a user pastes the commands of the notes.
fn applied(notes: &str) -> String {
    let commands: Vec<&str> = notes.split("\n\n").filter(|part| part.starts_with("kubectl ")).collect();
    assert_eq!(commands.len(), 3, "{notes}");
    let kubectl = r#"kubectl() { case "$*" in *" apply "*) cat ;; esac; }"#;
    succeed(Command::new("bash").args(["-euc", &format!("{kubectl}\n{}", commands.join("\n"))]), "")
}

#[test]
fn the_commands_of_the_notes_can_be_pasted_and_use_an_allowed_portal() {
    for (values, url) in [
        ("{}", "https://www.arcgis.com"),
        ("allowedPortals: ['https://gis.example.com', 'https://www.arcgis.com/']", "https://www.arcgis.com"),
        ("allowedPortals: ['https://gis.example.com:7443/']", "https://gis.example.com:7443/portal"),
        ("allowedPortals: ['https://*.maps.arcgis.com']", "https://HOST.maps.arcgis.com/portal"),
    ] {
        let notes = notes(values);
        assert!(!notes.lines().any(|line| line.trim_start().starts_with('#')), "an interactive zsh runs it: {notes}");
        let resource: ArcGisAppCredential = serde_saphyr::from_str(&applied(&notes)).unwrap();
        assert_eq!(resource.spec.portal.url, url, "{notes}");
    }
}
