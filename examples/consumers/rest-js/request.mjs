// Reads a layer every $EVERY seconds with @esri/arcgis-rest-request. Needs the format RestJs.
import { setTimeout } from "node:timers/promises";
import { request } from "@esri/arcgis-rest-request";
import { manager } from "./manager.mjs";

const { LAYER_URL, EVERY = "60" } = process.env;

async function features() {
  const options = {
    authentication: manager(),
    // Sends the token in a header. URLs are written to logs.
    httpMethod: "GET",
    hideToken: true,
    params: { where: "1=1", outFields: "*" },
  };
  try {
    return (await request(`${LAYER_URL}/query`, options)).features;
  } catch (error) {
    // 498 or 499: the file may have been replaced since it was read.
    if (error.name !== "ArcGISAuthError") throw error;
    return (await error.retry(async () => manager())).features;
  }
}

for (;;) {
  try {
    for (const { attributes } of await features()) console.log(JSON.stringify(attributes));
  } catch (error) {
    console.log(error.message);
  }
  await setTimeout(Number(EVERY) * 1000);
}
