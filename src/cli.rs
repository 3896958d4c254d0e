//! Commands and flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::core::{AllowedOrigin, REFERER_ADVICE, is_referer, is_subdomain, parse_selector};
use crate::ops::{LogFormat, LogLevel};

/// Keeps ArcGIS access tokens fresh in Kubernetes Secrets.
#[derive(Debug, Parser)]
#[command(name = "arcgis-credential-operator", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller
    Run(Box<RunArgs>),
    /// Print the CRD as YAML
    Crd,
    /// Request one token and show each step: name, connection, proxy, TLS, HTTP, ArcGIS; never the token
    Probe(Box<ProbeArgs>),
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Watch only this namespace; repeatable
    #[arg(long = "namespace", value_name = "NS", env = "ARCGIS_OPERATOR_NAMESPACE", value_delimiter = ',',
          value_parser = parse_namespace)]
    pub namespaces: Vec<String>,
    /// Reconcile only resources with these labels
    #[arg(long, value_name = "LABELS", env = "ARCGIS_OPERATOR_SELECTOR", value_parser = parse_selector)]
    pub selector: Option<String>,
    /// Origin of portals that credentials may be sent to; repeatable; `https://*.example.com` matches any depth below it
    #[arg(
        long = "allowed-portal",
        value_name = "ORIGIN",
        env = "ARCGIS_OPERATOR_ALLOWED_PORTAL",
        value_delimiter = ',',
        default_values = ["https://www.arcgis.com", "https://*.maps.arcgis.com"]
    )]
    pub allowed_portals: Vec<AllowedOrigin>,
    /// File with CA certificates in PEM format to trust for every portal
    #[arg(long, value_name = "PATH", env = "ARCGIS_OPERATOR_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// How many resources are reconciled at once
    #[arg(long, value_name = "N", env = "ARCGIS_OPERATOR_CONCURRENCY", default_value_t = 16,
          value_parser = parse_concurrency)]
    pub concurrency: usize,
    /// Address of /livez, /readyz and /metrics [default: [::]:8080, without IPv6 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", env = "ARCGIS_OPERATOR_ADMIN_ADDRESS")]
    pub admin_address: Option<SocketAddr>,
    /// Act only while holding the Lease, so that one of several replicas acts
    #[arg(long, value_name = "BOOL", env = "ARCGIS_OPERATOR_LEADER_ELECT", action = ArgAction::Set,
          default_value_t = true, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// Name of the Lease; operators that reconcile different resources need different ones
    #[arg(long, value_name = "NAME", env = "ARCGIS_OPERATOR_LEASE_NAME", default_value = "arcgis-credential-operator",
          value_parser = parse_name)]
    pub lease_name: String,
    /// Namespace of the Lease [default: the pod's; without a pod that of the kubeconfig or of the service account]
    #[arg(long, value_name = "NS", env = "ARCGIS_OPERATOR_LEASE_NAMESPACE", value_parser = parse_name)]
    pub lease_namespace: Option<String>,
    /// Format of log lines
    #[arg(long, value_enum, env = "ARCGIS_OPERATOR_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
    /// Least severe level that is logged
    #[arg(long, value_enum, env = "ARCGIS_OPERATOR_LOG_LEVEL", default_value = "info")]
    pub log_level: LogLevel,
}

/// An empty name would select every namespace, which is what leaving out the flag does.
fn parse_namespace(text: &str) -> Result<String, String> {
    // A DNS label: a subdomain of one part.
    let valid = is_subdomain(text) && text.len() <= 63 && !text.contains('.');
    if valid {
        Ok(text.to_owned())
    } else {
        Err("write a namespace's name, or leave the flag out for all namespaces".to_owned())
    }
}

fn parse_concurrency(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1024).contains(n)).ok_or_else(|| "write a number from 1 to 1024".to_owned())
}

fn parse_name(text: &str) -> Result<String, String> {
    let name = is_subdomain(text).then(|| text.to_owned());
    name.ok_or_else(|| "write lower-case letters, digits, - and .".to_owned())
}

fn parse_referer(text: &str) -> Result<String, String> {
    let referer = is_referer(text).then(|| text.to_owned());
    referer.ok_or_else(|| REFERER_ADVICE.to_owned())
}

#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// Resource whose portal, certificates, referer and credentials are used, read from the cluster: NAMESPACE/NAME
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = parse_resource,
          conflicts_with_all = ["portal", "client_id_file", "client_secret_file", "client_certificate_file", "referer"])]
    pub resource: Option<(String, String)>,
    /// Base URL of the portal
    #[arg(long, value_name = "URL", required_unless_present = "resource")]
    pub portal: Option<String>,
    /// File with the client ID
    #[arg(long, value_name = "F", required_unless_present = "resource")]
    pub client_id_file: Option<PathBuf>,
    /// File with the client secret
    #[arg(long, value_name = "F", required_unless_present = "resource")]
    pub client_secret_file: Option<PathBuf>,
    /// File with CA certificates in PEM format to trust
    #[arg(long, value_name = "F", env = "ARCGIS_OPERATOR_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Origin of portals that credentials may be sent to, to check that of the resource; repeatable
    #[arg(
        long = "allowed-portal",
        value_name = "ORIGIN",
        env = "ARCGIS_OPERATOR_ALLOWED_PORTAL",
        value_delimiter = ','
    )]
    pub allowed_portals: Vec<AllowedOrigin>,
    /// File with the client certificate in PEM format, followed by its intermediate certificates
    #[arg(long, value_name = "F", requires = "client_key_file")]
    pub client_certificate_file: Option<PathBuf>,
    /// File with the private key of the client certificate in PEM format, not encrypted
    #[arg(long, value_name = "F", requires = "client_certificate_file")]
    pub client_key_file: Option<PathBuf>,
    /// URL to send in the header Referer, for an app that is restricted to HTTP referrers
    #[arg(long, value_name = "URL", value_parser = parse_referer)]
    pub referer: Option<String>,
    /// What is printed: text for people, or one JSON object
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

fn parse_resource(text: &str) -> Result<(String, String), String> {
    let named = text.split_once('/').filter(|(namespace, name)| is_subdomain(namespace) && is_subdomain(name));
    let named = named.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
    named.ok_or_else(|| "write NAMESPACE/NAME".to_owned())
}
