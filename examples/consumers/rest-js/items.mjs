// Lists the items that the app may read every $EVERY seconds with @esri/arcgis-rest-portal. Needs the format RestJs.
import { setTimeout } from "node:timers/promises";
import { searchItems } from "@esri/arcgis-rest-portal";
import { manager } from "./manager.mjs";

const { EVERY = "60" } = process.env;
const items = async () =>
  (await searchItems({ q: "*", httpMethod: "GET", hideToken: true, authentication: manager() })).results;

for (;;) {
  try {
    // 498 or 499: the file may have been replaced since it was read.
    const found = await items().catch((error) => {
      if (error.name !== "ArcGISAuthError") throw error;
      return items();
    });
    for (const { title, type } of found) console.log(`${title} (${type})`);
  } catch (error) {
    console.log(error.message);
  }
  await setTimeout(Number(EVERY) * 1000);
}
