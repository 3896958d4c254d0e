#!/bin/sh
# Reads a layer every $EVERY seconds. curl opens the header file again for each request, and the token is on no command line.
# Needs the format Headers.
set -eu
while :; do
  curl --silent --show-error --fail --header "@$TOKEN_DIR/headers" "$LAYER_URL/query?where=1%3D1&outFields=*&f=json" || true
  echo
  sleep "${EVERY:-60}"
done
