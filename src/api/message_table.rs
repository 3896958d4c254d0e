//! The table of messages: what was seen, and what to do, for each reason and cause.

use super::cause::Cause;
use super::reason::Reason;

/// What was seen, and what to do.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub reason: Reason,
    pub cause: Option<Cause>,
    /// The status that the text is for; the row without one is for any other.
    pub status: Option<u16>,
    pub seen: &'static str,
    pub advice: &'static str,
}

/// The status of the row for a 401 that offers Windows authentication.
pub(super) const WINDOWS: u16 = 0;

const CHECK_URL: &str = "Check that spec.portal.url is the base URL of the portal.";
const WAIT: &str = "The operator tries again by itself.";
const ALLOW: &str = "An administrator has to add its origin, without the path, to the operator's allowed portals (allowedPortals in the chart).";
const NETWORK: &str = "Check the NetworkPolicy of the operator, the firewall and the route to the portal.";

macro_rules! cause {
    (_) => {
        None
    };
    ($name:ident) => {
        Some(Cause::$name)
    };
}

macro_rules! messages {
    ($($reason:ident { $($cause:tt $(($status:expr))?: $seen:literal => $advice:expr;)* })*) => {
        /// Every message; with `_` that of a reason without a cause. The first row that fits is used.
        pub const MESSAGES: &[Message] = &[$($(
            Message {
                reason: Reason::$reason,
                cause: cause!($cause),
                #[allow(unused_mut, unused_assignments, reason = "most rows have no status")]
                status: { let mut _status = None; $(_status = Some($status);)? _status },
                seen: $seen,
                advice: $advice,
            },
        )*)*];
    };
}

messages! {
    SpecInvalid {
        Undecodable: "The specification cannot be used: {field}."
            => "Correct the field.";
        TargetLabels: "The API server rejects labels of Secret {target}."
            => "Correct spec.target.labels.";
        TargetAnnotations: "The API server rejects annotations of Secret {target}."
            => "Correct spec.target.annotations.";
        TargetKeys: "The API server rejects keys or values of Secret {target}."
            => "Correct spec.target.formats and spec.target.data.";
        TargetTooLarge: "Secret {target} would hold more than 1,000,000 bytes."
            => "Write less into spec.target.data.";
        _: "The specification cannot be used: {field}."
            => "Correct the field.";
    }
    PortalNotAllowed {
        NotListed: "Portal {portal} is not in the operator's list of allowed portals."
            => ALLOW;
        AddressNotAllowed: "Portal {portal} is allowed by a wildcard only, and its name leads to a loopback, link-local or service address."
            => "Correct its DNS record, or have an administrator add its exact origin to the operator's allowed portals (allowedPortals in the chart).";
        _: "Portal {portal} is not in the operator's list of allowed portals." => ALLOW;
    }
    TargetNotOwned {
        NoOwner: "Secret {target} exists and this resource does not own it."
            => "Set another spec.target.name, or hand the Secret over with the label and the annotation of the operator.";
        OtherController: "Secret {target} is owned by another controller."
            => "Set another spec.target.name.";
        OtherResource: "Secret {target} belongs to {owner}."
            => "Set another spec.target.name.";
        Immutable: "Secret {target} is immutable."
            => "Delete it, or set another spec.target.name.";
        OtherType: "Secret {target} is not of type Opaque."
            => "Delete it, or set another spec.target.name.";
        _: "Secret {target} is not owned by this resource."
            => "Set another spec.target.name, or hand the Secret over.";
    }
    SourceRefused {
        Permission: "The API server does not let the operator get {source}."
            => "Grant its service account the verb get on that object.";
        Other: "The API server refuses the operator's request to get {source}."
            => "Check authorization webhooks and what stands between the operator and the API server.";
        _: "The API server does not let the operator get {source}."
            => "Grant its service account the verb get on that object.";
    }
    CredentialsNotFound {
        _: "{credentials} with the app's credentials does not exist."
            => "Create it, or correct spec.credentialsRef.name.";
    }
    CredentialsIncomplete {
        KeyMissing: "{credentials} has no key {key}."
            => "Add it, or correct the key names in spec.credentialsRef.";
        Empty: "Key {key} of {credentials} is empty."
            => "Write the value of the app.";
        NotText: "Key {key} of {credentials} is not visible text: it has a blank, a control character, a byte order mark or more than 4,096 bytes."
            => "Write the bare value as UTF-8 text.";
        _: "Key {key} of {credentials} is missing, empty or not visible text."
            => "Write the value of the app.";
    }
    CaBundleNotFound {
        ObjectMissing: "The CA bundle, {ca}, does not exist."
            => "Create it, or correct spec.portal.caBundleRef.";
        KeyMissing: "The CA bundle, {ca}, has no such key."
            => "Add it, or correct spec.portal.caBundleRef.key.";
        _: "The CA bundle, {ca}, does not exist."
            => "Create it, or correct spec.portal.caBundleRef.";
    }
    ClientCertificateNotFound {
        ObjectMissing: "Secret {client_certificate} with the client certificate does not exist."
            => "Create it, or correct spec.portal.clientCertificateRef.name.";
        KeyMissing: "Secret {client_certificate} has no tls.crt or no tls.key."
            => "Create it again with both keys.";
        _: "Secret {client_certificate} with the client certificate, or its key tls.crt or tls.key, does not exist."
            => "Create it, or correct spec.portal.clientCertificateRef.name.";
    }
    CaBundleInvalid {
        Empty: "The CA bundle, {ca}, is empty."
            => "Write certificates in PEM format into it.";
        NotPem: "The CA bundle, {ca}, holds no certificate in PEM format."
            => "Convert it to PEM: DER, PKCS #7 and PKCS #12 are not read.";
        TooLarge: "The CA bundle, {ca}, holds more than 512 certificates or 1 MiB."
            => "Keep only the certificates that the portal needs.";
        _: "The CA bundle, {ca}, holds no certificate in PEM format."
            => "Convert it to PEM: DER, PKCS #7 and PKCS #12 are not read.";
    }
    ClientCertificateInvalid {
        NotPem: "The client certificate or the private key in Secret {client_certificate} cannot be read."
            => "Write the certificate, its intermediate certificates, and an RSA, ECDSA (P-256, P-384) or Ed25519 key in PEM format.";
        KeyMismatch: "The private key in Secret {client_certificate} is not that of the first certificate in it."
            => "Write the certificate of this key first.";
        Encrypted: "The private key in Secret {client_certificate} is encrypted."
            => "Write it without a passphrase.";
        Expired: "The client certificate in Secret {client_certificate} expired on {date}."
            => "Renew it.";
        NotYetValid: "The client certificate in Secret {client_certificate} is valid from {date} on only."
            => "Check the clock of the operator's node, and the certificate.";
        OtherType: "Secret {client_certificate} with the client certificate is not of type kubernetes.io/tls."
            => "Create it again with that type.";
        _: "The client certificate in Secret {client_certificate} cannot be used."
            => "Write a valid certificate and its private key, not encrypted, in PEM format.";
    }
    PortalUntrusted {
        Expired: "The certificate of portal {portal}, or one above it, expired on {date}."
            => "Renew it on the server.";
        NotYetValid: "The certificate of portal {portal} is valid from {date} on only."
            => "Check the clock of the operator's node, and the certificate on the server.";
        CaAsServer: "The certificate of portal {portal} is a CA certificate itself."
            => "Add exactly this certificate to spec.portal.caBundleRef, or have one without CA:TRUE issued for the server.";
        WrongPurpose: "The certificate of portal {portal} is not for servers: its key usages do not include them."
            => "Have one for server authentication issued.";
        UnknownIssuer: "The certificate of portal {portal} is signed by a CA that is not trusted, or the server does not send its intermediate certificate."
            => "Have an administrator trust the CA for all portals, or add it, or the server's own certificate, to spec.portal.caBundleRef, or complete the chain on the server.";
        Unsupported: "The certificate of portal {portal} is of X.509 version 1, or has a key or signature that is too weak, such as RSA 1024 or SHA-1, or a wrong signature."
            => "Have one of version 3 with RSA 2048, P-256 or more and SHA-256 issued.";
        OtherName: "The certificate of portal {portal} is for other names."
            => "Use a name of the certificate in spec.portal.url, or have one for this name issued.";
        NoName: "The certificate of portal {portal} has no subject alternative name."
            => "Have one with the host name as subject alternative name issued, or add exactly this certificate to spec.portal.caBundleRef if its common name is the host name.";
        Other: "The certificate of portal {portal} does not verify."
            => "Run probe against the portal, and check the extensions and the chain of its certificate.";
        _: "The certificate of portal {portal} does not verify."
            => "Check its names, its dates, its issuer and spec.portal.caBundleRef.";
    }
    ClientIdRejected {
        _: "Portal {portal} rejects the client ID in {credentials}."
            => "Check its value, and that the app is registered with this portal.";
    }
    ClientSecretRejected {
        _: "Portal {portal} rejects the client secret in {credentials}."
            => "Write the current secret of the app.";
    }
    RequestRejected {
        HttpStatus(WINDOWS): "Portal {portal} asks for Windows authentication (HTTP 401 with Negotiate or NTLM) before the request reaches ArcGIS."
            => "Set spec.portal.url to the portal itself, such as https://host:7443/arcgis, or allow anonymous access to /sharing/rest in IIS.";
        HttpStatus(401): "A server in front of portal {portal} asks for credentials (HTTP 401)."
            => "Set spec.portal.url to the portal itself, or allow the path /sharing/rest without credentials there.";
        HttpStatus(403): "A server in front of portal {portal} refuses the request (HTTP 403)."
            => "Check its rules for the path /sharing/rest/oauth2/token and for the addresses of the cluster, and whether it requires a client certificate.";
        HttpStatus(404): "Portal {portal} has no token endpoint at this path (HTTP 404)."
            => CHECK_URL;
        HttpStatus(405): "Portal {portal} does not take a POST at this path (HTTP 405)."
            => CHECK_URL;
        HttpStatus: "Portal {portal} rejects the token request with {status}."
            => CHECK_URL;
        ArcGisError: "Portal {portal} rejects the token request with {code}."
            => "Check the registration, the privileges and the referrers of the app, and spec.token.referer.";
        ClientCertificateRequired: "Portal {portal} requires a client certificate, or another one than it was given."
            => "Name a certificate that it accepts in spec.portal.clientCertificateRef.";
        NoCommonTls: "Portal {portal} and the operator have no TLS cipher suite, group or key type in common."
            => "Enable TLS 1.2 or 1.3 with ECDHE and AES-GCM or ChaCha20-Poly1305 on the server, and use an RSA, P-256 or P-384 key.";
        _: "Portal {portal} rejects the token request."
            => "Check spec.portal.url and spec.portal.clientCertificateRef, and the registration, the privileges and the referrers of the app.";
    }
    PortalUnreachable {
        NameNotResolved: "The name of portal {portal} does not resolve, or DNS does not answer within 3 s."
            => "Check spec.portal.url, the DNS of the cluster, and the NetworkPolicy of the operator for port 53.";
        ConnectionRefused: "Portal {portal} refuses connections: nothing listens on that port."
            => "Check the port in spec.portal.url, and whether the portal runs.";
        NoRoute: "There is no route to portal {portal}."
            => NETWORK;
        ConnectTimeout: "No TLS connection to portal {portal}{through} within 5 s."
            => NETWORK;
        ConnectionClosed: "Portal {portal} closes the connection before it answers."
            => "Check the load balancer or firewall in front of it, and its log; a Java server with a P-521 or RSASSA-PSS key closes it like this, too.";
        ResponseTimeout: "Portal {portal} does not answer within 15 s."
            => "Check the load and the log of the portal.";
        NotTls: "The port of portal {portal} answers without TLS, or only with versions before 1.2."
            => "Check the port in spec.portal.url, such as 7443 instead of 7080, and enable TLS 1.2 or 1.3 on the server.";
        ProxyUnreachable: "The proxy{proxy} on the way to portal {portal} cannot be reached."
            => "Check HTTPS_PROXY and NO_PROXY of the operator, and whether the proxy runs.";
        ProxyRejected(407): "The proxy{proxy} on the way to portal {portal} asks for credentials (HTTP 407)."
            => "Write its user and password into HTTPS_PROXY of the operator.";
        ProxyRejected: "The proxy{proxy} opens no connection to portal {portal}."
            => "Check the rules of the proxy, whether it reaches the portal, and the user and password in HTTPS_PROXY.";
        _: "Portal {portal} cannot be reached."
            => "Check DNS, the NetworkPolicy, the firewall and the proxy.";
    }
    PortalUnavailable {
        HttpStatus: "Portal {portal}, or a server in front of it, reports that it is unavailable ({status})."
            => WAIT;
        ArcGisError: "Portal {portal} reports that it is unavailable ({code})."
            => WAIT;
        _: "Portal {portal} reports that it is unavailable."
            => WAIT;
    }
    RateLimited {
        HttpStatus: "Portal {portal}, or a server in front of it, limits the rate of requests (HTTP 429)."
            => WAIT;
        ArcGisError: "Portal {portal} limits the rate of requests (ArcGIS error 429)."
            => WAIT;
        _: "Portal {portal} limits the rate of requests."
            => WAIT;
    }
    MalformedResponse {
        Redirect: "Portal {portal} answers with a redirect ({status}), which is not followed."
            => "Set spec.portal.url to the address that it leads to, and turn a login page off for /sharing/rest.";
        Html: "Portal {portal} answers with a web page in place of a token."
            => "Check that spec.portal.url is the base URL of the portal, and that no login page or proxy is in front of /sharing/rest.";
        NotJson: "The answer of portal {portal} is not JSON."
            => CHECK_URL;
        NoToken: "The answer of portal {portal} is JSON without a token and without an ArcGIS error."
            => CHECK_URL;
        InvalidToken: "The token that portal {portal} issues has characters or a length that no token has."
            => "Check what stands between the operator and the portal.";
        InvalidLifetime: "Portal {portal} issues a token without a valid lifetime."
            => "Check what stands between the operator and the portal.";
        TooLarge: "The answer of portal {portal} is larger than 64 KiB."
            => CHECK_URL;
        Truncated: "The answer of portal {portal} ends too early, or is not HTTP."
            => "Check the load balancer or proxy in front of the portal.";
        _: "The answer of portal {portal} is neither a token nor an ArcGIS error."
            => "Check spec.portal.url and the proxy.";
    }
    TargetRefused {
        Permission: "The API server does not let the operator write Secret {target}."
            => "Grant its service account get, create and patch on Secrets in this namespace.";
        Quota: "The quota{name} refuses Secret {target}."
            => "Raise it, or remove objects that it counts.";
        Policy: "The admission policy{name} refuses Secret {target}."
            => "Change the policy, or the labels, annotations and keys in spec.target.";
        Webhook: "The admission webhook{name} refuses Secret {target}."
            => "Change what it checks, or the labels, annotations and keys in spec.target.";
        NamespaceTerminating: "The namespace is being deleted, so Secret {target} cannot be created."
            => "Wait, and create the resource again in the new namespace.";
        OwnerReference: "The API server refuses to change the owner reference of Secret {target}. The token is renewed anyway."
            => "A cluster that protects owner references requires the permission to delete Secrets for it.";
        Other: "The API server refuses to read or write Secret {target}."
            => "Check admission policies, webhooks and the permissions of the operator.";
        _: "The API server refuses to read or write Secret {target}."
            => "Check quotas, admission policies, the permissions of the operator, and whether the namespace is being deleted.";
    }
    ClusterError {
        Timeout: "The API server does not answer within 10 s."
            => WAIT;
        Unauthorized: "The API server does not accept the operator's token (HTTP 401)."
            => "Check the service account of the operator, and restart it if the account was replaced.";
        TooManyRequests: "The API server limits the rate of the operator's requests (HTTP 429)."
            => WAIT;
        ServerError: "The API server fails with {status}."
            => "Check the API server and etcd.";
        WebhookFailed: "The API server cannot call the admission webhook{name}."
            => "Repair the webhook, or exclude Secrets from it.";
        Unreachable: "The API server cannot be reached."
            => "Check the API server and the network of the operator's node.";
        _: "The Kubernetes API failed."
            => WAIT;
    }
    Internal {
        _: "The operator has a bug that this resource triggers."
            => "Report it with the operator's log.";
    }
}
