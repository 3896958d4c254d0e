//! The committed CRD matches the types.

#[test]
fn the_committed_crd_is_what_the_program_prints() {
    let printed = arcgis_credential_operator::api::crd_yaml().unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/arcgisappcredentials.yaml");
    assert!(
        std::fs::read_to_string(path).unwrap() == printed,
        "run: cargo run -- crd > crds/arcgisappcredentials.yaml"
    );
}
