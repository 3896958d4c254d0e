#!/usr/bin/env bash
# ezesri 0.4.0 (PyPI) with requests 2.34.2, on a layer with a maxRecordCount of 1,000.
#
# Guess:  a 498 ends the extraction at once: each further request gets the same answer.
# Seen:   it counts as a batch that is too large. The batch is halved and sent again, down to one feature, so that one
#         rejected token costs ten requests, and the error speaks of the batch size first.
#
#   rejected batches: 1000 500 250 125 62 31 15 7 3 1
#   EsriLayerError: Failed to fetch features from … even with batch size 1: … code=498 message=Invalid token.
#
# So:     check `code=498` in the text: the exception has no code there.
# Run on 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ezesri==0.4.0 requests==2.34.2
cat > "$work/run.py" <<'PY'
import http.server, json, threading, urllib.parse

import ezesri

IDS = list(range(1, 2001))
FIELDS = [{"name": "OBJECTID", "type": "esriFieldTypeOID", "alias": "OBJECTID"}]
LAYER = {"id": 0, "name": "Parcels", "type": "Feature Layer", "geometryType": "esriGeometryPoint", "fields": FIELDS,
         "objectIdField": "OBJECTID", "maxRecordCount": 1000}
REJECTED = {"error": {"code": 498, "message": "Invalid token.", "details": []}}
valid = True
batches = []


def answer(path, query):
    if "objectIds" in query:
        ids = query["objectIds"].split(",")
        if not valid:
            batches.append(len(ids))
            return REJECTED
        return {"type": "FeatureCollection", "features": [
            {"type": "Feature", "properties": {"OBJECTID": int(i)}, "geometry": {"type": "Point", "coordinates": [0, 0]}}
            for i in ids]}
    if "returnIdsOnly" in query:
        return {"objectIdFieldName": "OBJECTID", "objectIds": IDS}
    return LAYER


class Service(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.send(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def do_GET(self):
        self.send("")

    def send(self, body):
        url = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(url.query) + urllib.parse.parse_qsl(body))
        text = json.dumps(answer(url.path, query)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_address[1]}/rest/services/Parcels/FeatureServer/0"
assert len(ezesri.extract_layer(url)) == len(IDS)
valid = False
try:
    ezesri.extract_layer(url)
    raise SystemExit("no error")
except ezesri.extract.EsriLayerError as error:
    print("rejected batches:", *batches)
    print("EsriLayerError, code", error.code, error)
    assert batches == [1000, 500, 250, 125, 62, 31, 15, 7, 3, 1], batches
    assert error.code is None and "even with batch size 1" in str(error) and "code=498" in str(error)
PY
"$work/venv/bin/python" "$work/run.py" 2>/dev/null
echo 'as found'
