#!/bin/sh
# Reads a layer every $EVERY seconds. What was sourced stays as it was: source it again before each request.
# Needs the format DotEnv.
set -eu
while :; do
  . "$TOKEN_DIR/arcgis.env"
  # By a pipe: what stands on a command line is seen by all processes of the pod.
  printf 'X-Esri-Authorization: Bearer %s\n' "$ARCGIS_ACCESS_TOKEN" |
    curl --silent --show-error --fail --header @- "$LAYER_URL/query?where=1%3D1&outFields=*&f=json" || true
  echo
  sleep "${EVERY:-60}"
done
