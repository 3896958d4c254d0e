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
# Neither update nor delete: a target goes by its owner reference.
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
