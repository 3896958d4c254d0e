#!/bin/sh
# Copies a layer with GDAL into the GeoPackage $OUTPUT every $EVERY seconds. Needs the format Headers.
# Only a complete copy replaces the last one. A token that ends between two pages makes ogr2ogr fail and leave a part;
# ogrinfo prints a part and reports success, and so does ogr2ogr with -skipfailures.
# GDAL sends the header to every host it talks to: set the variable for the commands that need it, not for the whole pod.
set -eu
output=${OUTPUT:-layer.gpkg}
part=${output%.gpkg}.part.gpkg
while :; do
  rm -f "$part"
  if GDAL_HTTP_HEADER_FILE=$TOKEN_DIR/headers ogr2ogr -f GPKG -gt unlimited -nln layer \
    "$part" "ESRIJSON:$LAYER_URL/query?where=1%3D1&outFields=*&f=json"; then
    mv "$part" "$output"
    ogrinfo -ro -q -al "$output"
  fi
  sleep "${EVERY:-60}"
done
