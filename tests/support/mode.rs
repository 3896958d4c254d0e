//! How the operator of a test runs: this is the one place that says it.

use std::panic::Location;

/// How the operator of a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the chart installs it: all namespaces, and a Lease. A selector leaves the resources of other tests alone.
    Default,
    /// With `--namespace` and `--leader-elect=false`.
    OneNamespace,
}

/// The files whose tests run in [`Mode::OneNamespace`], and why. All others run in the default mode.
pub const ONE_NAMESPACE: &[(&str, &str)] = &[
    ("tests/e2e/cluster_faults.rs", "counts lists by namespace, and takes permissions away in one"),
    ("tests/e2e/cost.rs", "counts every call, and kills the operator without waiting for the end of a Lease"),
    ("tests/e2e/gitops/flux.rs", "Flux applies the resource of the page, without the label"),
    ("tests/e2e/migration.rs", "the commands of the page apply the resource, without the label"),
    ("tests/e2e/refusals.rs", "has permissions in one namespace alone"),
    ("tests/e2e/restarts.rs", "kills the operator again and again without waiting for the end of a Lease"),
    ("tests/e2e/start.rs", "starts without permissions for a Lease"),
];

impl Mode {
    /// Returns the mode of the tests in the file that calls.
    pub fn of(caller: &Location) -> Self {
        let listed = ONE_NAMESPACE.iter().any(|(file, _)| caller.file().ends_with(file));
        if listed { Self::OneNamespace } else { Self::Default }
    }
}
