// A manager keeps the token that it was created with: create one from the file for each request. Needs the format RestJs.
import { readFileSync } from "node:fs";
import { ApiKeyManager } from "@esri/arcgis-rest-request";

export function manager() {
  const file = readFileSync(`${process.env.TOKEN_DIR}/rest-js.json`, "utf8");
  const manager = ApiKeyManager.deserialize(file);
  // deserialize ignores the portal in the file. Without this line, calls such as searchItems send the token of an
  // Enterprise portal to www.arcgis.com.
  manager.portal = JSON.parse(file).portal;
  return manager;
}
