#!/usr/bin/env bash
# @esri/arcgis-rest-request and @esri/arcgis-rest-feature-service 4.10.2 (npm), with Node 20.
#
# Guess:  ArcGISIdentityManager.deserialize, given a token and a portal, sends that token to a service that is not below
#         the URL of the portal, as ApiKeyManager does, or throws an error.
# Seen:   it asks the service for its portal. Where the service names none, the query goes out without a token, and
#         there is no error: a layer with a public part gives that part.
#
#   ApiKeyManager          query: Bearer the-token
#   ArcGISIdentityManager  query: no token, no error
#
# So:     use ApiKeyManager for a token that somebody else requests, and set its `portal`.
# Run on 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{"private": true, "type": "module"}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts \
  @esri/arcgis-rest-request@4.10.2 @esri/arcgis-rest-feature-service@4.10.2
cat > run.mjs <<'JS'
import assert from "node:assert";
import { createServer } from "node:http";
import { queryFeatures } from "@esri/arcgis-rest-feature-service";
import { ApiKeyManager, ArcGISIdentityManager } from "@esri/arcgis-rest-request";

const queries = [];
const listen = (answer) =>
  new Promise((resolve) => {
    const server = createServer((request, response) => {
      response.setHeader("Content-Type", "application/json");
      response.end(JSON.stringify(answer(request)));
    }).listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`));
  });
const portal = await listen(() => ({ id: "org", isPortal: true }));
const service = await listen((request) => {
  if (!request.url.includes("/query")) return { currentVersion: 11.3, authInfo: { isTokenBasedSecurity: true } };
  queries.push(request.headers["x-esri-authorization"] ?? new URL(request.url, portal).searchParams.get("token"));
  return { features: [] };
});
const serialized = JSON.stringify({ token: "the-token", portal: `${portal}/portal/sharing/rest` });
for (const [Manager, sent] of [[ApiKeyManager, "Bearer the-token"], [ArcGISIdentityManager, null]]) {
  const authentication = Manager.deserialize(serialized);
  const url = `${service}/server/rest/services/Places/FeatureServer/0`;
  const { features } = await queryFeatures({ url, authentication, httpMethod: "GET", hideToken: true });
  console.log(Manager.name, "sent", queries.at(-1), "and got", features);
  assert.deepEqual([queries.at(-1), features], [sent, []]);
}
process.exit(0);
JS
node run.mjs
echo 'as found'
