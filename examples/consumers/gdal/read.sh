#!/bin/sh
# Reads a layer with GDAL every $EVERY seconds. The ESRIJSON driver ignores GDAL_HTTP_HEADERS; only the file works.
# GDAL sends the header to every host it talks to: set the variable for the commands that need it, not for the whole pod.
# Needs the format Headers.
set -eu
while :; do
  GDAL_HTTP_HEADER_FILE=$TOKEN_DIR/headers ogrinfo -ro -q -al "ESRIJSON:$LAYER_URL/query?where=1%3D1&outFields=*&f=json" || true
  sleep "${EVERY:-60}"
done
