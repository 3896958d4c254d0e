#!/bin/sh
# Reads a layer every $EVERY seconds. Variables keep their values: source the file again before each request.
# Needs the format DotEnv.
set -eu
while :; do
  . "$TOKEN_DIR/arcgis.env"
  # The header comes from a pipe, because all processes of the pod can read a command line.
  printf 'X-Esri-Authorization: Bearer %s\n' "$ARCGIS_ACCESS_TOKEN" |
    curl --silent --show-error --fail --header @- "$LAYER_URL/query?where=1%3D1&outFields=*&f=json" || true
  echo
  sleep "${EVERY:-60}"
done
