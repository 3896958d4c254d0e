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


def read():
    gdal.ErrorReset()
    # Features live no longer than their dataset.
    dataset = gdal.OpenEx(source, gdal.OF_VECTOR | gdal.OF_READONLY)
    features = [feature.ExportToJson() for feature in dataset.GetLayer(0)]
    # The loop ends without an exception if a later page is refused: the features are then only a part.
    if gdal.GetLastErrorType() >= gdal.CE_Failure:
        raise RuntimeError(gdal.GetLastErrorMsg())
    return features


while True:
    try:
        for feature in read():
            print(feature, flush=True)
    except RuntimeError as error:
        print(error, flush=True)
    time.sleep(float(os.environ.get("EVERY", "60")))
