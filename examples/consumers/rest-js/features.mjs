// Reads a layer every $EVERY seconds with @esri/arcgis-rest-feature-service. Needs the format RestJs.
import { setTimeout } from "node:timers/promises";
import { queryFeatures } from "@esri/arcgis-rest-feature-service";
import { manager } from "./manager.mjs";

const { LAYER_URL, EVERY = "60" } = process.env;

async function features() {
  const query = { url: LAYER_URL, where: "1=1", outFields: "*", httpMethod: "GET", hideToken: true };
  try {
    return (await queryFeatures({ ...query, authentication: manager() })).features;
  } catch (error) {
    // 498 or 499: the file may have been replaced since it was read.
    if (error.name !== "ArcGISAuthError") throw error;
    return (await queryFeatures({ ...query, authentication: manager() })).features;
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
