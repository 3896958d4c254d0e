// Shows a secured layer with esri-leaflet. The page gets the token from its own server: at the start, shortly before it
// expires, and when it was rejected. The token is kept in memory only.
const setting = (name) => document.querySelector(`meta[name=${name}]`).content;
const REFRESH = Number(setting("refresh-seconds")) * 1000;
// The server has a new token some time before the old one expires.
const AHEAD = 60_000;
// A new token takes up to 85 seconds to reach the file that the server reads.
const RETRY = Math.min(REFRESH, 10_000);
const REJECTED = [498, 499];

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

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function token() {
  const response = await fetch("token", { cache: "no-store" });
  if (!response.ok) throw new Error(`no token: the server answered ${response.status}`);
  const { access_token, expires_at } = await response.json();
  return { value: access_token, expires: Date.parse(expires_at) };
}

// Returns a token that differs from the rejected one.
async function replacement(rejected) {
  for (;;) {
    const next = await token();
    if (next.value !== rejected) return next;
    report("The token was rejected. Waiting for a new one", true);
    await wait(RETRY);
  }
}

function query(token) {
  const layer = L.esri.query({ url: setting("layer") }).token(token).where("1=1");
  return new Promise((resolve, reject) => layer.run((error, found) => (error ? reject(error) : resolve(found))));
}

let current;
async function read() {
  current ??= await token();
  // The old token is valid for some time: it does not matter when this request fails.
  if (current.expires - Date.now() < AHEAD) current = await token().catch(() => current);
  try {
    return await query(current.value);
  } catch (error) {
    if (!REJECTED.includes(error.code)) throw error;
    current = await replacement(current.value);
    return query(current.value);
  }
}

for (;;) {
  try {
    const found = await read();
    places.clearLayers().addData(found);
    report(`${found.features.length} places`, false);
    await wait(REFRESH);
  } catch (error) {
    report(`The layer cannot be read: ${error.message}`, true);
    await wait(RETRY);
  }
}
