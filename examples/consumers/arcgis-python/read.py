#!/usr/bin/env python3
"""Reads a layer every $EVERY seconds with the ArcGIS API for Python. A GIS keeps the token that it was created with.

A new GIS is created when the token in the file has changed. Its first use sends seven requests to the portal, so do not
create one for each request. The package repeats a request whose token was rejected without the token. A layer that shows
a part of its features to everyone then returns that part, without an error: do not send an expired token.
"""

import datetime
import os
import pathlib
import time

from arcgis.features import FeatureLayer
from arcgis.gis import GIS

FOLDER = pathlib.Path(os.environ["TOKEN_DIR"])


def connect(token):
    gis = GIS((FOLDER / "portal_url").read_text(), token=token)
    return FeatureLayer(os.environ["LAYER_URL"], gis=gis)


def expired():
    end = datetime.datetime.fromisoformat((FOLDER / "expires_at").read_text())
    return end <= datetime.datetime.now(datetime.timezone.utc)


used = layer = None
while True:
    try:
        token = (FOLDER / "access_token").read_text()
        if expired():
            raise RuntimeError("the token in the file has expired")
        if token != used:
            layer, used = connect(token), token
        for feature in layer.query(where="1=1", out_fields="*").features:
            print(feature.attributes, flush=True)
    # The package raises plain exceptions: the code 498 is in the text.
    except Exception as error:
        print(" ".join(str(error).split()), flush=True)
    time.sleep(float(os.environ.get("EVERY", "60")))
