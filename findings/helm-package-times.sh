#!/usr/bin/env bash
# Finding: `helm package` of Helm 3 ignores SOURCE_DATE_EPOCH, that of Helm 4 honors it.
#
# One would guess: both behave alike, as their charts and archives do otherwise, and neither looks at a variable that no page of
# `helm package --help` names.
# Seen with helm 3.22.0: each entry of the archive has the time of the run, so two runs give different bytes.
# Seen with helm 4.3.1: each entry has the time of SOURCE_DATE_EPOCH, whatever the times of the files are, so two runs give the same
# bytes. Neither `--help` names the variable.
#
# Needs Go 1.26 and a network. It fails when a version begins to behave differently.
# Run on 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export SOURCE_DATE_EPOCH=1700000000 GOBIN=$work/bin CGO_ENABLED=0 GOFLAGS='-trimpath "-ldflags=-s -w"' TZ=UTC
export HELM_CACHE_HOME=$work/cache HELM_CONFIG_HOME=$work/config HELM_DATA_HOME=$work/data
for version in v3@v3.22.0 v4@v4.3.1; do
  go install "helm.sh/helm/${version%@*}/cmd/helm@${version#*@}"
  mv bin/helm "bin/helm-${version%@*}"
done

failed=0
expect() { [ "$2" = "$3" ] && echo "ok: $1: $2" || { echo "changed: $1: expected '$3', got '$2'"; failed=1; }; }
package() { "bin/helm-$1" package chart -d "$2" >/dev/null; }
days() { tar -tvzf "$1"/*.tgz | awk '{print $4}' | sort -u | tr '\n' ' '; }
same() { cmp -s "$1"/*.tgz "$2"/*.tgz && echo same || echo different; }

bin/helm-v4 create chart >/dev/null
find chart -exec touch -d 2001-02-03T00:00:00Z {} +
before=$(date +%F)
package v3 three && package v4 four
sleep 1.1
package v3 three-again && package v4 four-again
[ "$before" = "$(date +%F)" ] || { echo 'midnight passed meanwhile: run it again'; exit 1; }
expect 'days in the archive of Helm 3' "$(days three)" "$before "
expect 'two archives of Helm 3' "$(same three three-again)" different
expect 'days in the archive of Helm 4' "$(days four)" '2023-11-14 '
expect 'two archives of Helm 4' "$(same four four-again)" same
for helm in v3 v4; do
  named=$("bin/helm-$helm" package --help | grep -c SOURCE_DATE_EPOCH || true)
  expect "lines of the help of Helm ${helm#v} about SOURCE_DATE_EPOCH" "$named" 0
done
exit "$failed"
