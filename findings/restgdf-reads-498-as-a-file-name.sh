#!/usr/bin/env bash
# restgdf 3.3.0 (PyPI) with geopandas 1.2.0, pyogrio 0.13.0 and aiohttp 3.14.5, on a layer of five pages.
#
# Guess:  a token that ends between two pages raises restgdf's own RestgdfResponseError with the code 498, whichever method
#         reads the layer.
# Seen:   row_dict_generator() does. get_gdf() gives the JSON of the error to geopandas, which takes it for the name of a
#         file: DataSourceError, "No such file or directory". Code that retries on RestgdfResponseError does not retry.
#
#   row_dict_generator  RestgdfResponseError: FeaturesResponse received ArcGIS error envelope (code=498): Invalid token.
#   get_gdf             DataSourceError: {"error": {"code": 498, …}}: No such file or directory
#
# So:     with get_gdf(), catch pyogrio.errors.DataSourceError, too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  restgdf==3.3.0 geopandas==1.2.0 pyogrio==0.13.0 aiohttp==3.14.5
cat > "$work/run.py" <<'PY'
import asyncio, http.server, json, threading, urllib.parse

import aiohttp
from restgdf import FeatureLayer

ALL, PAGE = 10, 2
FIELDS = [{"name": "OBJECTID", "type": "esriFieldTypeOID", "alias": "OBJECTID"}]
LAYER = {"id": 0, "name": "Parcels", "type": "Feature Layer", "geometryType": "esriGeometryPoint", "fields": FIELDS,
         "objectIdField": "OBJECTID", "maxRecordCount": PAGE, "supportedQueryFormats": "JSON, geoJSON",
         "advancedQueryCapabilities": {"supportsPagination": True}}
admitted = None
formats = []


def features(query):
    first = int(query.get("resultOffset", 0))
    ids = range(first + 1, min(ALL, first + PAGE) + 1)
    if query["f"].lower() == "geojson":
        return {"type": "FeatureCollection", "features": [
            {"type": "Feature", "id": i, "properties": {"OBJECTID": i}, "geometry": {"type": "Point", "coordinates": [0, 0]}}
            for i in ids]}
    return {"geometryType": "esriGeometryPoint", "spatialReference": {"wkid": 4326}, "fields": FIELDS,
            "features": [{"attributes": {"OBJECTID": i}, "geometry": {"x": 0, "y": 0}} for i in ids]}


class Service(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def do_GET(self):
        self.answer("")

    def answer(self, body):
        global admitted
        url = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(url.query) + urllib.parse.parse_qsl(body))
        counts = query.get("returnCountOnly") == "true"
        page = url.path.endswith("/query") and not counts
        if page and admitted is not None and admitted == 0:
            answer = {"error": {"code": 498, "message": "Invalid token.", "details": []}}
        elif page:
            admitted = admitted if admitted is None else admitted - 1
            answer = features(query)
        else:
            answer = {"count": ALL} if counts else LAYER
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_address[1]}/rest/services/Parcels/FeatureServer/0"


async def read(method, pages):
    """Returns how many features are read, or the exception, where so many pages are admitted."""
    global admitted
    admitted = pages
    async with aiohttp.ClientSession(headers={"X-Esri-Authorization": "Bearer token"}) as session:
        layer = await FeatureLayer.from_url(url, session=session)
        try:
            if method == "get_gdf":
                result = len(await layer.get_gdf())
            else:
                result = len([row async for row in layer.row_dict_generator()])
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
    print(method, pages, result)
    return result


async def main():
    for method in ("row_dict_generator", "get_gdf"):
        assert await read(method, None) == ALL
    rejected = await read("row_dict_generator", 2)
    assert rejected.startswith("RestgdfResponseError") and "498" in rejected
    rejected = await read("get_gdf", 2)
    assert rejected.startswith("DataSourceError") and rejected.endswith("No such file or directory")


asyncio.run(main())
PY
"$work/venv/bin/python" "$work/run.py"
echo 'as found'
