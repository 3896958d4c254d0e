{{- define "operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "operator.fullname" -}}
{{- $name := include "operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "operator.fullname" .) }}
{{- else }}
{{- required "serviceAccount.name: needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "operator.lease" -}}
{{- .Values.leaderElection.leaseName | default (include "operator.fullname" .) }}
{{- end }}

{{- define "operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Of the pod of `helm test`. Nothing that selects the operator may select it. */}}
{{- define "operator.probeLabels" -}}
app.kubernetes.io/name: {{ include "operator.name" . | trunc 57 | trimSuffix "-" }}-probe
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* An object's metadata but for its name: takes (list context labels annotations). */}}
{{- define "operator.marks" -}}
{{- $root := index . 0 -}}
labels:
  {{- include "operator.labels" $root | nindent 2 }}
  {{- with index . 1 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (index . 2) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* What the operator may do where it works: in a ClusterRole, or in a Role of each namespace. */}}
{{- define "operator.rules" -}}
- apiGroups: [credentials.arcgis.dev]
  resources: [arcgisappcredentials]
  verbs: [list, watch]
- apiGroups: [credentials.arcgis.dev]
  resources: [arcgisappcredentials/status]
  verbs: [patch]
# Not delete: a target is deleted by its owner reference.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
{{- if .Values.rbac.guardedOwnerReferences }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [delete]
{{- end }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{- define "operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "operator.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- /* The ports of the origins and of the proxy, and those of the API server, once each. */}}
{{- define "operator.egressPorts" -}}
{{- $ports := concat .Values.networkPolicy.apiServerPorts .Values.networkPolicy.extraEgressPorts }}
{{- range .Values.allowedPortals }}
{{- $port := regexFind ":[0-9]+/?$" . | trimPrefix ":" | trimSuffix "/" }}
{{- $ports = append $ports ($port | default "443") }}
{{- end }}
{{- with .Values.proxy.url }}
{{- $port := regexFind ":[0-9]+/?$" . | trimPrefix ":" | trimSuffix "/" }}
{{- $ports = append $ports ($port | default (ternary "80" "443" (hasPrefix "http:" .))) }}
{{- end }}
{{- $seen := dict }}
{{- range $ports }}
{{- $_ := set $seen (printf "%05d" (int .)) (int .) }}
{{- end }}
{{- range $i, $key := keys $seen | sortAlpha }}
{{- if $i }}
{{ end -}}
- {protocol: TCP, port: {{ get $seen $key }}}
{{- end }}
{{- end }}

{{- define "operator.image" -}}
{{- if not .Values.image.repository }}
{{- fail "image.repository: no registry has an image of this chart, which is from the source tree. Build one with `make image`, push it or load it into the nodes, and set image.repository to where it is; or install a released chart" }}
{{- end }}
{{- with .Values.image }}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "operator.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "operator.podSecurityContext" -}}
{{- $context := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- toYaml (mergeOverwrite $context .Values.podSecurityContext) }}
{{- end }}

{{- define "operator.securityContext" -}}
{{- $context := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) }}
{{- toYaml (mergeOverwrite $context .Values.securityContext) }}
{{- end }}

{{- /* What the pods of the operator and of `helm test` have in common. */}}
{{- define "operator.env" -}}
{{- with .Values.proxy.url }}
- {name: HTTPS_PROXY, value: {{ . | quote }}}
{{- end }}
{{- with .Values.proxy.noProxy }}
- {name: NO_PROXY, value: {{ . | quote }}}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The file with the additional CA certificates, where there are any. */}}
{{- define "operator.caFile" -}}
{{- with .Values.trust }}
{{- if or .configMap.name .secret.name .clusterTrustBundle.name .clusterTrustBundle.signerName -}}
/etc/arcgis-credential-operator/trust/ca.crt
{{- end }}
{{- end }}
{{- end }}

{{- define "operator.volumeMounts" -}}
{{- with include "operator.caFile" . }}
- {name: trust, mountPath: {{ dir . }}, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "operator.trustSource" -}}
{{- with .Values.trust }}
{{- $given := list }}
{{- range $kind := list "configMap" "secret" }}
{{- $source := get $.Values.trust $kind }}
{{- with $source.name }}
{{- $items := list (dict "key" $source.key "path" "ca.crt") }}
{{- $given = append $given (dict $kind (dict "name" . "items" $items)) }}
{{- end }}
{{- end }}
{{- with .clusterTrustBundle }}
{{- with .name }}
{{- $given = append $given (dict "clusterTrustBundle" (dict "name" . "path" "ca.crt")) }}
{{- end }}
{{- if .signerName }}
{{- $given = append $given (dict "clusterTrustBundle" (dict "signerName" .signerName "labelSelector" .labelSelector "path" "ca.crt")) }}
{{- end }}
{{- end }}
{{- if gt (len $given) 1 }}
{{- fail "trust: give one of configMap.name, secret.name, clusterTrustBundle.name and clusterTrustBundle.signerName" }}
{{- end }}
{{- toYaml $given }}
{{- end }}
{{- end }}

{{- define "operator.volumes" -}}
{{- if include "operator.caFile" . }}
- name: trust
  projected:
    sources:
      {{- include "operator.trustSource" . | nindent 6 }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Where a pod runs, and how it resolves names. */}}
{{- define "operator.placement" -}}
{{- range $field := list "hostAliases" "dnsConfig" "nodeSelector" "tolerations" "affinity" }}
{{- with get $.Values $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- /* The egress rules: DNS, then the API server and the portals. */}}
{{- define "operator.egress" -}}
- ports:
    {{- $ports := list }}
    {{- range .Values.networkPolicy.dnsPorts }}{{ $ports = append $ports (int .) }}{{ end }}
    {{- range $ports | uniq }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
# The API server and the portals. Their addresses are not known in advance.
- ports:
    {{- include "operator.egressPorts" . | nindent 4 }}
{{- end }}

{{- /* The peers that may scrape: a text is the name of a namespace. */}}
{{- define "operator.metricsPeers" -}}
{{- range .Values.networkPolicy.metricsFrom }}
{{- if kindIs "string" . }}
- namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ . }}}}
{{- else }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The alerts that are not disabled, with the addresses of their runbooks. */}}
{{- define "operator.alerts" -}}
{{- $groups := list }}
{{- $values := .Values.prometheusRule }}
{{- range (.Files.Get "files/alerts.yaml" | fromYaml).groups }}
{{- $rules := list }}
{{- range .rules }}
{{- $annotations := .annotations | default dict }}
{{- if and $values.runbookBaseUrl $annotations.runbook_url }}
{{- $_ := set $annotations "runbook_url" (print $values.runbookBaseUrl $annotations.runbook_url) }}
{{- else }}
{{- $_ := unset $annotations "runbook_url" }}
{{- end }}
{{- if not (get $values.disabled (.alert | default "")) }}
{{- $rules = append $rules . }}
{{- end }}
{{- end }}
{{- if $rules }}
{{- $groups = append $groups (set . "rules" $rules) }}
{{- end }}
{{- end }}
{{- toYaml (dict "groups" $groups) }}
{{- end }}

{{- /* How a PodMonitor or a ServiceMonitor scrapes. */}}
{{- define "operator.endpoint" -}}
port: admin
scheme: {{ .scheme }}
interval: {{ .interval }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
# `namespace` is the resource's, not the pod's.
honorLabels: true
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
