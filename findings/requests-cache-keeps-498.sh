#!/usr/bin/env bash
# requests-cache 1.3.3 (PyPI) with requests 2.34.2, in front of an ArcGIS service.
#
# Guess:  a request with another token is another request: the next one after a rejected token asks the service.
# Seen:   the key of the cache has no headers. The 498 has HTTP status 200, so it is kept, and a later request with a valid
#         token gets it without a request to the service, until it expires. `match_headers` separates them.
#
#   expired token:                     498  from_cache=False
#   valid token:                       498  from_cache=True   requests received: 1
#   valid token, with match_headers:   ok   from_cache=False  requests received: 3
#
# So:     set match_headers=["X-Esri-Authorization"], and do not keep answers that have "error" (filter_fn).
# Run on 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check requests-cache==1.3.3 requests==2.34.2
cat > "$work/run.py" <<'PY'
import http.server, json, threading

import requests_cache

received = []


class Service(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        token = self.headers["X-Esri-Authorization"]
        received.append(token)
        rejected = {"error": {"code": 498, "message": "Invalid token.", "details": []}}
        body = json.dumps({"features": []} if token == "Bearer valid" else rejected).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_address[1]}/FeatureServer/0/query?where=1%3D1&f=json"


def get(session, token):
    answer = session.get(url, headers={"X-Esri-Authorization": f"Bearer {token}"})
    code = answer.json().get("error", {}).get("code", "ok")
    print(f"{token}: {code} from_cache={answer.from_cache} received={len(received)}")
    return code, answer.from_cache, len(received)


session = requests_cache.CachedSession(backend="memory", expire_after=3600)
assert get(session, "expired") == (498, False, 1)
assert get(session, "valid") == (498, True, 1)
session = requests_cache.CachedSession(backend="memory", expire_after=3600, match_headers=["X-Esri-Authorization"])
assert get(session, "expired") == (498, False, 2)
assert get(session, "valid") == ("ok", False, 3)
PY
"$work/venv/bin/python" "$work/run.py"
echo 'as found'
