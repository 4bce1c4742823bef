{{/* The chart's name in labels. 57 characters, so that `-hooks` fits into a label. */}}
{{- define "roomrobot.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 57 | trimSuffix "-" }}
{{- end }}

{{/* The name of the release's resources. 51 characters, so that the longest suffix still fits into a label. */}}
{{- define "roomrobot.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 51 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 51 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 51 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* The name of a resource that belongs to the cluster: two releases in two namespaces may have one name. */}}
{{- define "roomrobot.clusterName" -}}
{{- $name := include "roomrobot.fullname" . }}
{{- if or (eq .Release.Namespace "roomrobot-system") (eq .Release.Namespace $name) -}}
{{- $name }}
{{- else -}}
{{- printf "%s-%s" $name .Release.Namespace | trunc 115 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "roomrobot.selectorLabels" -}}
app.kubernetes.io/name: {{ include "roomrobot.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "roomrobot.labels" -}}
{{ include "roomrobot.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The same without what changes from version to version: for Pods of hooks, whose labels nobody selects by. */}}
{{- define "roomrobot.hookLabels" -}}
app.kubernetes.io/name: {{ include "roomrobot.name" . }}-hooks
app.kubernetes.io/instance: {{ .Release.Name }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "roomrobot.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "roomrobot.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "roomrobot.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{/* The labels that `selector` asks for; empty where it is not only key=value. */}}
{{- define "roomrobot.robotLabels" -}}
{{- if regexMatch "^[A-Za-z0-9._/-]+==?[A-Za-z0-9._-]+( *, *[A-Za-z0-9._/-]+==?[A-Za-z0-9._-]+)*$" .Values.selector }}
{{- range $at, $label := splitList "," .Values.selector }}
{{- $pair := regexSplit "==?" (trim $label) 2 }}
{{- if $at }}{{ "\n" }}{{ end }}
{{- first $pair }}: {{ last $pair | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Whether the admission policy is part of the release: "true" or "". It must not put a finalizer on what this release does not
serve, and the server knows labels by equality only.
*/}}
{{- define "roomrobot.admissionPolicy" -}}
{{- $wanted := toString .Values.admissionPolicy.enabled }}
{{- $plain := or (not .Values.selector) (include "roomrobot.robotLabels" .) }}
{{- if and (eq $wanted "true") (not $plain) }}
{{- fail "admissionPolicy.enabled: with a selector that is not only key=value, set it to false" }}
{{- end }}
{{- $served := .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}
{{- if or (eq $wanted "true") (and (eq $wanted "auto") $served $plain) }}true{{ end }}
{{- end }}

{{/* The name of the Secret of an application from the values. */}}
{{- define "roomrobot.applicationSecret" -}}
{{- $application := index . 1 }}
{{- if $application.existingSecret -}}
{{ $application.existingSecret }}
{{- else -}}
{{ printf "%s-%s" (include "roomrobot.fullname" (index . 0)) $application.name }}
{{- end }}
{{- end }}

{{/* The applications from the values, as the operator's `hook` commands take them. No key is in it. */}}
{{- define "roomrobot.applications" -}}
{{- $root := . }}
{{- $applications := list }}
{{- range .Values.applications }}
{{- if hasKey (default dict .spec) "credentials" }}
{{- fail (printf "applications: %s: name its Secret with existingSecret, not in spec.credentials" .name) }}
{{- end }}
{{- if eq (empty .existingSecret) (empty .secret) }}
{{- fail (printf "applications: %s: it needs either existingSecret or secret" .name) }}
{{- end }}
{{- $secret := include "roomrobot.applicationSecret" (list $root .) }}
{{- $spec := merge (dict "credentials" (dict "secretRef" (dict "name" $secret))) .spec }}
{{- $applications = append $applications (dict "name" .name "spec" $spec) }}
{{- end }}
{{- toJson $applications }}
{{- end }}

{{/* Labels and annotations of the Pods of hooks. */}}
{{- define "roomrobot.hookMetadata" -}}
labels:
  {{- include "roomrobot.hookLabels" . | nindent 2 }}
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What all Pods of hooks have in common: a Pod spec without its container's arguments. */}}
{{- define "roomrobot.hookPod" -}}
restartPolicy: Never
serviceAccountName: {{ include "roomrobot.fullname" . }}-hooks
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "roomrobot.hookContainer" -}}
image: {{ include "roomrobot.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
# What it says at the end also shows in the status of its Pod.
terminationMessagePolicy: FallbackToLogsOnError
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  requests:
    cpu: 10m
    memory: 32Mi
  limits:
    memory: 128Mi
{{- end }}
