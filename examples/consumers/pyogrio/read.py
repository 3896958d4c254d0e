#!/usr/bin/env python3
"""Reads a layer with pyogrio every $EVERY seconds, in one process: GDAL reads the header file again for each request.

Needs the format Headers. pyogrio's wheel contains GDAL. The option is that of this process: in workers of joblib or dask,
set it in the worker, or as an environment variable. Keep the prefix ESRIJSON: without it, pyogrio keeps the first answer.
"""

import os
import time

import pyogrio

pyogrio.set_gdal_config_options({"GDAL_HTTP_HEADER_FILE": os.environ["TOKEN_DIR"] + "/headers"})
source = "ESRIJSON:" + os.environ["LAYER_URL"] + "/query?where=1%3D1&outFields=*&f=json"

while True:
    try:
        meta, _, _, columns = pyogrio.raw.read(source)
        for row in zip(*columns):
            print(dict(zip(meta["fields"], row)), flush=True)
    # The first is for a refused first page, the second for a later one.
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        print(error, flush=True)
    time.sleep(float(os.environ.get("EVERY", "60")))
