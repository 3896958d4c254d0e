// Serves places.json as a feature service with Koop, for clients with a token of the portal at $PORTAL_URL. Each request
// is checked with the portal, so that an expired token is rejected at once; add a cache if that is too much.
// TLS_DIR is a folder with tls.crt and tls.key, as in a Secret of the type kubernetes.io/tls.
// Install the packages with npm ci --omit=optional --omit=peer: the others are large and not used.
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { createRequire } from "node:module";

const { PORTAL_URL, TLS_DIR, PORT = "8443", HOST = "0.0.0.0" } = process.env;
const Koop = createRequire(import.meta.url)("@koopjs/koop-core");
const REJECTED = [498, 499];
const places = JSON.parse(readFileSync(new URL("places.json", import.meta.url), "utf8"));

function tokenOf(request) {
  const header = request.headers["x-esri-authorization"] ?? request.headers.authorization;
  return header?.replace(/^Bearer /, "") ?? request.query.token ?? request.body?.token;
}

const failure = (code, message) => Object.assign(new Error(message), { code });

// Returns the app that a token was issued to, or nothing if the portal rejects the token. Throws if the portal cannot say.
async function appOf(headers) {
  // A redirect would carry the token to another host.
  const options = { headers, redirect: "error" };
  const response = await fetch(`${PORTAL_URL}/sharing/rest/portals/self?f=json`, options);
  const answer = await response.json();
  const code = answer.error?.code ?? answer.code;
  if (REJECTED.includes(code)) return undefined;
  // ArcGIS reports most errors with HTTP status 200, and in more than one form.
  const failed = !response.ok || answer.error || ["error", "failure"].includes(answer.status);
  if (failed) throw new Error(`HTTP status ${response.status}, code ${code}`);
  return answer.appInfo;
}

class Places {
  // The portal answers a request without a valid token too, but then names no app. An error without a code would become
  // 498, and clients would drop a good token.
  async authorize(request) {
    const token = tokenOf(request);
    if (!token) throw failure(499, "Token Required");
    const headers = { "X-Esri-Authorization": `Bearer ${token}` };
    if (request.headers.referer) headers.Referer = request.headers.referer;
    const app = await appOf(headers).catch((error) => {
      throw failure(503, `The token cannot be checked: ${error.message}`);
    });
    if (!app) throw failure(498, "Invalid token.");
  }

  async getData({ params: { id } }) {
    if (id !== "Places") throw failure(404, "Service not found.");
    return structuredClone(places);
  }
}

const koop = new Koop({ logLevel: "error" });
// The layer is at /server/rest/services/Places/FeatureServer/0.
koop.register({ type: "provider", name: "server", version: "1.0.0", hosts: false, Model: Places });
const [cert, key] = ["tls.crt", "tls.key"].map((file) => readFileSync(`${TLS_DIR}/${file}`));
const server = createServer({ cert, key }, koop.server);
server.listen(Number(PORT), HOST, () => console.log(`listening on port ${server.address().port}`));
