#!/usr/bin/env python3
"""Reads a layer once with the ArcGIS API for Python, for a Job or CronJob. No line of it names the token.

GIS reads the variable ESRI_API_KEY and sends its value as a token to the portal of its URL, whatever that is.
"""

import os

from arcgis.features import FeatureLayer
from arcgis.gis import GIS

layer = FeatureLayer(os.environ["LAYER_URL"], gis=GIS(os.environ["PORTAL_URL"]))
for feature in layer.query(where="1=1", out_fields="*").features:
    print(feature.attributes, flush=True)
