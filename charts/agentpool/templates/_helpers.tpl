{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{- define "agentpool.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that selectors use; they never change. Argument: dict root component. */}}
{{- define "agentpool.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* metadata of an object. Argument: dict root name component [namespace annotations labels cluster]. */}}
{{- define "agentpool.metadata" -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ .namespace | default .root.Release.Namespace }}
{{- end }}
labels:
  {{- include "agentpool.selectorLabels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  app.kubernetes.io/part-of: agentpool
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
  {{- with merge (dict) (.labels | default dict) .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* metadata of a pod template. Argument: dict root component values [annotations]. */}}
{{- define "agentpool.podMetadata" -}}
labels:
  {{- include "agentpool.selectorLabels" . | nindent 2 }}
  {{- with merge (dict) .values.podLabels .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .values.podAnnotations .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Name of an image: a digest wins over a tag. Argument: dict root image. */}}
{{- define "agentpool.image" -}}
{{- $registry := .image.registry | default .root.Values.image.registry -}}
{{- with $registry }}{{ . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}
{{- else }}:{{ .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Where a pod runs. Argument: the component's values. */}}
{{- define "agentpool.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "agentpool.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Pod security, profile restricted. Argument: user id. */}}
{{- define "agentpool.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "agentpool.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "agentpool.operatorAccount" -}}
{{- .Values.operator.serviceAccount.name | default (printf "%s-operator" (include "agentpool.fullname" .)) -}}
{{- end -}}

{{- define "agentpool.gatewayAccount" -}}
{{- .Values.gateway.serviceAccount.name | default (printf "%s-gateway" (include "agentpool.fullname" .)) -}}
{{- end -}}

{{/* host:port of the Redis of this release. */}}
{{- define "agentpool.redisAddress" -}}
{{- printf "%s-redis-clients.%s.svc:6379" (include "agentpool.fullname" .) .Release.Namespace -}}
{{- end -}}

{{/* A role in each watched namespace, or one for the cluster, and its binding to a ServiceAccount.
     Argument: dict root name component account rules. */}}
{{- define "agentpool.roles" -}}
{{- $root := .root -}}
{{- $kind := ternary "Role" "ClusterRole" (gt (len $root.Values.watchNamespaces) 0) -}}
{{- $arguments := . -}}
{{- range $namespace := ($root.Values.watchNamespaces | default (list "")) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  {{- include "agentpool.metadata" (merge (dict "namespace" $namespace "cluster" (empty $namespace)) $arguments) | nindent 2 }}
rules:
  {{- $arguments.rules | trim | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  {{- include "agentpool.metadata" (merge (dict "namespace" $namespace "cluster" (empty $namespace)) $arguments) | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ $arguments.name }}
subjects:
  - kind: ServiceAccount
    name: {{ $arguments.account }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}
{{- end -}}

{{/* Variables by which a program makes traces. */}}
{{- define "agentpool.tracing" -}}
{{- with .Values.tracing.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ $.Values.tracing.sampleRatio | quote }}
{{- if $.Values.tracing.identities }}
- name: AGENTPOOL_TRACE_IDENTITIES
  value: "true"
{{- end }}
{{- end }}
{{- end -}}

{{- define "agentpool.gatewaySettings" -}}
{{- if not (or .Values.gateway.auth.clusterIssuer .Values.gateway.auth.issuers) -}}
{{- fail "nobody could call: turn gateway.auth.clusterIssuer on, or name issuers in gateway.auth.issuers" -}}
{{- end -}}
{{- if and .Values.directAccess.enabled .Values.networkPolicy.enabled (not .Values.directAccess.from) -}}
{{- fail "nobody could use a lease: name applications in directAccess.from, as `from` of a NetworkPolicy" -}}
{{- end -}}
http_listen: "0.0.0.0:8000"
grpc_listen: "0.0.0.0:9000"
call_token_key_file: /etc/agentpool/call-token/private.pem
kubernetes:
  namespaces: {{ toJson .Values.watchNamespaces }}
{{- with .Values.gateway.defaultPool }}
default_pool: {{ . }}
{{- end }}
auth:
  cluster_issuer: {{ .Values.gateway.auth.clusterIssuer }}
  audience: {{ .Values.gateway.auth.audience }}
  tenant_binding: {{ .Values.gateway.auth.tenantBinding }}
  issuers: {{ toJson .Values.gateway.auth.issuers }}
direct_access: {{ .Values.directAccess.enabled }}
instance_series: {{ .Values.gateway.instanceSeries }}
shutdown_grace_seconds: {{ .Values.gateway.shutdownGraceSeconds }}
log_level: {{ .Values.gateway.logLevel }}
{{- end -}}
