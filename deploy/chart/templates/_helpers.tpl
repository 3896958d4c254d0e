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

{{- define "operator.image" -}}
{{- with .Values.image }}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "operator.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* The security context of a pod. The user is fixed only where nobody else chooses it. */}}
{{- define "operator.podSecurityContext" -}}
{{- $context := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- if not (or .Values.openshift .Values.podSecurityContext) }}
{{- $context = merge $context (dict "runAsUser" 65532 "runAsGroup" 65532) }}
{{- end }}
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

{{- define "operator.volumeMounts" -}}
{{- if or .Values.ca.configMapName .Values.ca.secretName }}
- {name: ca, mountPath: /etc/arcgis-credential-operator/ca, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "operator.volumes" -}}
{{- if or .Values.ca.configMapName .Values.ca.secretName }}
- name: ca
  {{- if .Values.ca.configMapName }}
  configMap: {name: {{ .Values.ca.configMapName }}}
  {{- else }}
  secret: {secretName: {{ .Values.ca.secretName }}}
  {{- end }}
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
    {{- if .Values.openshift }}{{ $ports = append $ports 5353 }}{{ end }}
    {{- range $ports | uniq }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
# The API server and the portals. Their addresses are not known in advance.
- ports:
    {{- include "operator.egressPorts" . | nindent 4 }}
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
