// Shows a secured layer with esri-leaflet. The page has no token: its server adds it to the requests.
const setting = (name) => document.querySelector(`meta[name=${name}]`).content;
const REFRESH = Number(setting("refresh-seconds")) * 1000;

const status = document.getElementById("status");
const map = L.map("map", { attributionControl: false }).setView([34.15, -117.0], 9);
const places = L.geoJSON(undefined, {
  pointToLayer: (feature, position) =>
    L.circleMarker(position).bindTooltip(feature.properties.NAME, { permanent: true, direction: "bottom" }),
}).addTo(map);

function report(text, failed) {
  status.textContent = `${text} · ${new Date().toLocaleTimeString("en-US")}`;
  status.classList.toggle("failed", failed);
}

function query() {
  const layer = L.esri.query({ url: new URL(setting("layer"), document.baseURI).href }).where("1=1");
  return new Promise((resolve, reject) => layer.run((error, found) => (error ? reject(error) : resolve(found))));
}

for (;;) {
  try {
    const found = await query();
    places.clearLayers().addData(found);
    report(`${found.features.length} places`, false);
  } catch (error) {
    // The page cannot resolve this. The server uses the new token as soon as it is in the file.
    const rejected = error.code === 498;
    report(rejected ? "The token of the server was rejected" : `The layer cannot be read: ${error.message}`, true);
  }
  await new Promise((resolve) => setTimeout(resolve, REFRESH));
}
