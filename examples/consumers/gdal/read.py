#!/usr/bin/env python3
"""Reads a layer with GDAL every $EVERY seconds, in one process: GDAL reads the header file again for each request.

Needs the format Headers, and GDAL's Python bindings (Debian: python3-gdal).
"""

import os
import time

from osgeo import gdal

gdal.UseExceptions()
gdal.SetConfigOption("GDAL_HTTP_HEADER_FILE", os.environ["TOKEN_DIR"] + "/headers")
source = "ESRIJSON:" + os.environ["LAYER_URL"] + "/query?where=1%3D1&outFields=*&f=json"

while True:
    try:
        # Features live no longer than their dataset.
        dataset = gdal.OpenEx(source, gdal.OF_VECTOR | gdal.OF_READONLY)
        for feature in dataset.GetLayer(0):
            print(feature.ExportToJson(), flush=True)
    except RuntimeError as error:
        print(error, flush=True)
    time.sleep(float(os.environ.get("EVERY", "60")))
