#!/usr/bin/env python3
"""Reads a layer every $EVERY seconds with Python's standard library. The token is read from its file for each request.

ArcGIS reports most errors with HTTP status 200 and a code in the body. 498 and 499 mean that the token was rejected or
missing: the file may have been replaced since it was read, so it is read once more.
"""

import json
import os
import pathlib
import time
import urllib.request

TOKEN = pathlib.Path(os.environ["TOKEN_DIR"], "access_token")
TOKEN_REJECTED = (498, 499)


class ArcGisError(Exception):
    pass


def ask(url):
    request = urllib.request.Request(url)
    # Other headers are sent to the target of a redirect, too.
    request.add_unredirected_header("X-Esri-Authorization", "Bearer " + TOKEN.read_text())
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def get(url):
    answer = ask(url)
    if answer.get("error", {}).get("code") in TOKEN_REJECTED:
        answer = ask(url)
    if "error" in answer:
        raise ArcGisError(answer["error"].get("code"), answer["error"].get("message"))
    return answer


while True:
    try:
        for feature in get(os.environ["LAYER_URL"] + "/query?where=1%3D1&outFields=*&f=json")["features"]:
            print(feature["attributes"], flush=True)
    except (OSError, ValueError, ArcGisError) as error:
        print(error, flush=True)
    time.sleep(float(os.environ.get("EVERY", "60")))
