//! What admission refuses: CEL rules and bounds, each with what to write instead.
//!
//! A pattern stands before a function that fails on junk, so that our message is shown and not CEL's.

use schemars::{Schema, SchemaGenerator, json_schema};

pub(super) const TARGET_IS_CREDENTIALS: &str =
    "spec.target.name must not be the credentials Secret: write the name of a Secret of its own";
pub(super) const TARGET_IS_NOT_CA: &str = "!has(self.portal) || !has(self.portal.caBundleRef) \
    || self.portal.caBundleRef.kind != 'Secret' || self.portal.caBundleRef.name != self.target.name";
pub(super) const TARGET_IS_CA: &str =
    "spec.target.name must not be the CA bundle's Secret: write the name of a Secret of its own";
pub(super) const TARGET_IS_NOT_CLIENT_CERTIFICATE: &str = "!has(self.portal) \
    || !has(self.portal.clientCertificateRef) || self.portal.clientCertificateRef.name != self.target.name";
pub(super) const TARGET_IS_CLIENT_CERTIFICATE: &str =
    "spec.target.name must not be the Secret with the client certificate: write the name of a Secret of its own";

/// A host of labels, or an IP address in its usual form, for URL parsers take other numbers for addresses, too.
pub(super) const URL: &str = concat!(
    r"self.matches('^https://(\\w([\\w-]{0,61}\\w)?([.]\\w([\\w-]{0,61}\\w)?)*|\\[[0-9a-fA-F]*:[0-9a-fA-F:.]+\\])",
    r"(:[1-9][0-9]{0,4})?(/[\\w.~%/-]*)?$') && isURL(self)",
    " && (url(self).getPort() == '' || int(url(self).getPort()) < 65536) && url(self).getHostname().size() <= 253",
    " && (!self.contains('[') || isIP(self.find('[[][^]]*').replace('[', '')))",
    " && (!self.matches('^https://([^/:]*[.])?([0-9]+|0[xX][0-9a-fA-F]*)([:/]|$)')",
    " || isIP(self.find('^https://[^/:]*').replace('https://', '')))",
);
pub(super) const URL_MESSAGE: &str = "write https://host, https://host/context or https://host:port/context, \
    without user, query, fragment or blanks";
pub(super) const NOT_A_SERVICE: &str = "!self.lowerAscii().contains('/rest/services')";
pub(super) const NOT_A_SERVICE_MESSAGE: &str = "this is a service; write the portal's URL";

/// Without characters that shells interpret, for a format holds it unquoted in a file for shells.
pub(super) const REFERER: &str = r"self.matches('^https?://([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|\\[[0-9a-fA-F:.]{2,45}\\])(:[0-9]{1,5})?([/?][!\x22$-~]*)?$')";
pub(super) const REFERER_MESSAGE: &str = "write an http or https URL such as https://maps.example.com/app: a host, \
    optionally a port, a path and a query of visible ASCII characters without blanks, user and fragment";
/// The file of this format holds it unquoted, and shells read that file.
pub(super) const SHELL_REFERER: &str = "!has(self.token) || !has(self.token.referer) || !has(self.target.formats) \
    || !self.target.formats.exists(f, f == 'DotEnv') || self.token.referer.matches('^[][A-Za-z0-9:._~%/?=+,@-]*$')";
pub(super) const SHELL_REFERER_MESSAGE: &str =
    "with the format DotEnv write only letters, digits and :._~%/?=+,@- in the referer: shells read the file";

pub(super) const NAME: &str = "!format.dns1123Subdomain().validate(self).hasValue()";
pub(super) const NAME_MESSAGE: &str =
    "write a DNS-1123 subdomain: lower-case letters, digits, - and ., at most 253 characters";

pub(super) const KEY: &str = "self.matches('^[-._a-zA-Z0-9]+$')";
pub(super) const KEY_MESSAGE: &str = "write a key of letters, digits, -, _ and .";

/// What `duration` takes, as far as it fits.
macro_rules! duration_pattern {
    () => {
        "'^([0-9]*[.]?[0-9]{1,9}(h|m|s|ms))+$'"
    };
}
pub(super) const DURATION: &str = concat!(
    "self.matches(",
    duration_pattern!(),
    ") && duration(self) >= duration('1m') && duration(self) <= duration('336h')"
);
pub(super) const DURATION_MESSAGE: &str = "write a Go duration between 1m and 336h, such as 90m, 1h30m or 1.5h";
pub(super) const INTERVAL: &str = concat!(
    "self.matches(",
    duration_pattern!(),
    ") && duration(self) >= duration('1m') && duration(self) <= duration('24h')"
);
pub(super) const INTERVAL_MESSAGE: &str = "write a Go duration between 1m and 24h, such as 15m or 1h30m";
pub(super) const PRIVILEGES: &str = "self.all(p, p.matches('^[!-~]+$'))";
pub(super) const PRIVILEGES_MESSAGE: &str =
    "write privileges of visible characters without blanks, such as premium:user:geocode";
pub(super) const RENEW_BEFORE: &str = concat!(
    "!has(self.lifetime) || !has(self.renewBefore) || !self.lifetime.matches(",
    duration_pattern!(),
    ") || !self.renewBefore.matches(",
    duration_pattern!(),
    ") || duration(self.renewBefore) < duration(self.lifetime)"
);
pub(super) const RENEW_BEFORE_MESSAGE: &str = "renewBefore must be shorter than lifetime";

pub(super) const IMMUTABLE_MESSAGE: &str =
    "spec.target.name is immutable: create a resource of another name for another Secret";

pub(super) const OWN_KEYS: &str =
    "self.all(k, !k.startsWith('credentials.arcgis.dev/') && k != 'app.kubernetes.io/managed-by' && size(k) <= 317)";
pub(super) const OWN_KEYS_MESSAGE: &str = "keys under credentials.arcgis.dev/ and app.kubernetes.io/managed-by are the \
    operator's: choose others, of at most 317 characters";

pub(super) const QUALIFIED_KEYS: &str = "self.all(k, !format.qualifiedName().validate(k).hasValue())";
pub(super) const QUALIFIED_KEYS_MESSAGE: &str = "write keys as name or example.com/name: the name has at most 63 \
    letters, digits, -, _ and ., and begins and ends with a letter or digit";
pub(super) const LABEL_VALUES: &str = "self.all(k, !format.labelValue().validate(self[k]).hasValue())";
pub(super) const LABEL_VALUES_MESSAGE: &str = "write label values of at most 63 letters, digits, -, _ and ., that begin \
    and end with a letter or digit";
pub(super) const ANNOTATIONS_SIZE: &str = "self.map(k, size(k) + size(bytes(self[k]))).sum() <= 16384";
pub(super) const ANNOTATIONS_SIZE_MESSAGE: &str =
    "shorten the annotations: their keys and values have at most 16384 bytes in all";

pub(super) const DATA_KEYS: &str = "self.all(k, k.matches('^[-._a-zA-Z0-9]{1,253}$') \
    && !(k in ['access_token', 'expires_at', 'portal_url', 'client_id', 'client_secret']))";
pub(super) const DATA_KEYS_MESSAGE: &str = "a key is [-._a-zA-Z0-9]{1,253} and none of access_token, expires_at, \
    portal_url, client_id, client_secret";
pub(super) const DATA_TEXTS: &str =
    r"self.all(k, self[k].matches('^([^$]|[$][$]|[$][(](access_token|expires_at|portal_url)[)]|[$][^$(])*[$]?$'))";
pub(super) const DATA_TEXTS_MESSAGE: &str =
    "use only $(access_token), $(expires_at) and $(portal_url), closed by a bracket; write $$ for a literal $";
pub(super) const DATA_SIZE: &str = "self.map(k, size(bytes(self[k]))).sum() <= 32768";
pub(super) const DATA_SIZE_MESSAGE: &str = "shorten the texts: they have at most 32768 bytes in all";
pub(super) const DATA_FORMAT_KEYS: &str = "!has(self.data) || !has(self.formats) || self.formats.all(f, \
    !((f == 'Headers' ? 'headers' : f == 'DotEnv' ? 'arcgis.env' : f == 'Json' ? 'token.json' : 'rest-js.json') \
    in self.data))";
pub(super) const DATA_FORMAT_KEYS_MESSAGE: &str = "a key of data is the key of a chosen format: headers (Headers), \
    arcgis.env (DotEnv), token.json (Json) or rest-js.json (RestJs)";

/// At most 64 texts of at most this many characters.
fn texts(max: u32, description: &str) -> Schema {
    json_schema!({
        "type": "object",
        "description": description,
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": max},
    })
}

pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    texts(63, "labels to add to the Secret. Keys under credentials.arcgis.dev/ are reserved. Defaults to none.")
}

pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    let description = "annotations to add to the Secret, with at most 16 KiB in all. Keys under credentials.arcgis.dev/ are \
        reserved. Defaults to none.";
    texts(4096, description)
}

pub(super) fn data(_: &mut SchemaGenerator) -> Schema {
    let description = "data is text to publish under further keys of the Secret, such as a configuration file with the token in it. \
        $(access_token), $(expires_at) and $(portal_url) in it are replaced by their values; write $$ for a literal $. At most \
        32 KiB in all. Defaults to none.";
    texts(8192, description)
}
