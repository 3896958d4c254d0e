#!/usr/bin/env bash
# BusyBox 1.35.0 (Debian 12, package busybox 1:1.35.0-4+deb12u1+b1), the `date` of many small images.
#
# Guess:  `date -d` reads a time of RFC 3339 in UTC, such as the `expires_at` that many token files have, as GNU date does.
# Seen:   it rejects the T and the Z, and exits 1. It reads the same time with a blank and without the Z. In a script that
#         goes on after an error, "is it expired" is then a comparison with an empty text.
#
#   $ busybox date -u -d 2026-11-29T06:00:00Z +%s
#   date: invalid date '2026-11-29T06:00:00Z'
#   $ busybox date -u -D %Y-%m-%dT%H:%M:%SZ -d 2026-11-29T06:00:00Z +%s
#   1795932000
#
# So:     give the format with -D, which GNU date does not have, or compare in a language with a parser.
# Run on 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download busybox=1:1.35.0-4+deb12u1+b1 2>/dev/null
dpkg -x busybox_*.deb .
busybox=$(find . -path '*bin/busybox' -type f)
"$busybox" | head -1 | grep -F 'BusyBox v1.35.0'
time=2026-11-29T06:00:00Z
if seen=$("$busybox" date -u -d "$time" +%s 2>&1); then
  echo "BusyBox reads it: $seen"
  exit 1
fi
[ "$seen" = "date: invalid date '$time'" ]
[ "$("$busybox" date -u -D %Y-%m-%dT%H:%M:%SZ -d "$time" +%s)" = 1795932000 ]
[ "$("$busybox" date -u -d "2026-11-29 06:00:00" +%s)" = 1795932000 ]
[ "$(date -u -d "$time" +%s)" = 1795932000 ] # GNU date.
echo "$seen"
echo 'as found'
