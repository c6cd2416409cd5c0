{{/* Names. */}}
{{- define "neev-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "neev-gateway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "neev-gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "neev-gateway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Labels. Takes (list $ "component"). What selects must never change: a Deployment's selector is immutable. */}}
{{- define "neev-gateway.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "neev-gateway.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "neev-gateway.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "neev-gateway.selectorLabels" . }}
{{- if ne (index . 1) "store" }}
app.kubernetes.io/version: {{ default $root.Chart.AppVersion $root.Values.image.tag | trunc 63 | trimSuffix "-" | quote }}
{{- end }}
app.kubernetes.io/part-of: {{ dig "app.kubernetes.io/part-of" "neev-gateway" $root.Values.commonLabels }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- with omit $root.Values.commonLabels "app.kubernetes.io/part-of" }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Of pods: without the chart's version, whose change alone must replace no pod. */}}
{{- define "neev-gateway.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "neev-gateway.selectorLabels" . }}
app.kubernetes.io/part-of: {{ dig "app.kubernetes.io/part-of" "neev-gateway" $root.Values.commonLabels }}
{{- with omit $root.Values.commonLabels "app.kubernetes.io/part-of" }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image. Takes (list image defaultTag). */}}
{{- define "neev-gateway.imageName" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default (index . 1) $image.tag }}
{{- end }}
{{- end }}

{{- define "neev-gateway.image" -}}
{{ include "neev-gateway.imageName" (list .Values.image .Chart.AppVersion) }}
{{- end }}

{{/*
YAML that Python reads as it was meant. Helm writes 0.0000006 as 6e-07 and, with --reuse-values, 1000000 as 1e+06; to
Python's YAML the first is a text and the second a fraction. A text is passed on as it is.
*/}}
{{- define "neev-gateway.yaml" -}}
{{- if kindIs "string" . -}}
{{ . }}
{{- else -}}
{{- $text := toYaml . }}
{{- range regexFindAll `(?m)[:-] -?[0-9.]+e\+[0-9]+$` $text -1 | uniq }}
{{- $text = replace . (printf "%s%.0f" (regexFind `^[:-] ` .) (regexFind `-?[0-9.]+e\+[0-9]+$` . | float64)) $text }}
{{- end }}
{{- regexReplaceAll `(?m)([:-] -?[0-9])e-([0-9]+)$` $text "${1}.0e-${2}" }}
{{- end }}
{{- end }}

{{- define "neev-gateway.proxyConfig" -}}
{{ include "neev-gateway.yaml" .Values.proxyConfig | trimSuffix "\n" }}
{{- end }}

{{/* A model to try: one that is served for sure, the usual one if it is. */}}
{{- define "neev-gateway.firstModel" -}}
{{- $config := .Values.proxyConfig }}
{{- if kindIs "string" $config }}{{ $config = fromYaml $config }}{{ end }}
{{- $names := list }}
{{- range $config.model_list }}{{ $names = append $names .model_name }}{{ end }}
{{- ternary "gpt-oss-120b" (first $names) (has "gpt-oss-120b" $names) }}
{{- end }}

{{- define "neev-gateway.keysConfig" -}}
{{ include "neev-gateway.yaml" .Values.keysConfig | trimSuffix "\n" }}
{{- end }}

{{/* What is declared, also where it came as text; a text that is no YAML is the Job's to refuse. */}}
{{- define "neev-gateway.declared" -}}
{{- $keys := .Values.keysConfig }}
{{- if kindIs "string" $keys }}{{ $keys = fromYaml $keys }}{{ end }}
{{- dict "keys" (default list $keys.keys) | toYaml }}
{{- end }}

{{/* Non-empty if keys or teams are declared. */}}
{{- define "neev-gateway.hasKeys" -}}
{{- $keys := .Values.keysConfig }}
{{- if kindIs "string" $keys }}{{ trim $keys }}{{ else if or $keys.keys $keys.teams }}yes{{ end }}
{{- end }}

{{/* Secrets. */}}
{{- define "neev-gateway.masterKeySecret" -}}
{{ default (printf "%s-master-key" (include "neev-gateway.fullname" .)) .Values.masterKey.existingSecret }}
{{- end }}

{{- define "neev-gateway.masterKeyEntry" -}}
{{ ternary .Values.masterKey.existingSecretKey "LITELLM_MASTER_KEY" (ne .Values.masterKey.existingSecret "") }}
{{- end }}

{{- define "neev-gateway.storeName" -}}
{{ include "neev-gateway.fullname" . }}-store
{{- end }}

{{- define "neev-gateway.storeSecret" -}}
{{ default (include "neev-gateway.storeName" .) .Values.store.bundled.existingSecret }}
{{- end }}

{{- define "neev-gateway.storeSecretEntry" -}}
{{ ternary .Values.store.bundled.existingSecretKey "password" (ne .Values.store.bundled.existingSecret "") }}
{{- end }}

{{/*
A generated secret's value, as base64: what the cluster has, so that an upgrade keeps it; else new. `helm template`
sees no cluster and makes a new one each time. Takes (list $ name entry prefix length).
*/}}
{{- define "neev-gateway.keptSecret" -}}
{{- $root := index . 0 }}
{{- $there := lookup "v1" "Secret" $root.Release.Namespace (index . 1) }}
{{- $value := dig "data" (index . 2) "" $there }}
{{- default (printf "%s%s" (index . 3) (randAlphaNum (index . 4)) | b64enc) $value }}
{{- end }}

{{/* The store's URL; its password comes from the environment, where Kubernetes puts it in. */}}
{{- define "neev-gateway.storeUrl" -}}
{{- $store := .Values.store }}
{{- if eq $store.mode "bundled" -}}
redis://:$(NEEV_STORE_PASSWORD)@{{ include "neev-gateway.storeName" . }}:6379/0
{{- else if eq $store.mode "embedded" -}}
unix://{{ include "neev-gateway.stateDir" . }}/store/valkey.sock
{{- else -}}
{{- $external := $store.external }}
{{- $login := ternary (printf "%s:$(NEEV_STORE_PASSWORD)@" $external.username) "" (ne $external.existingSecret "") }}
{{- $url := replace "://" (print "://" $login) $external.url }}
{{- if $external.tls.caSecret }}
{{- $url = printf "%s%sssl_ca_certs=%s/ca.crt" $url (ternary "&" "?" (contains "?" $url)) (include "neev-gateway.storeCaDir" .) }}
{{- end }}
{{- $url }}
{{- end }}
{{- end }}

{{/* Places in the containers. */}}
{{- define "neev-gateway.configFile" -}}
/etc/neev-gateway/proxy_config.yaml
{{- end }}
{{- define "neev-gateway.stateDir" -}}
/var/lib/neev-gateway
{{- end }}
{{- define "neev-gateway.storeCaDir" -}}
/etc/neev-gateway-store-ca
{{- end }}

{{/* The environment by which the store is found; of the gateway, LiteLLM and the keys' Job. */}}
{{- define "neev-gateway.storeEnv" -}}
{{- $external := .Values.store.external }}
{{- if eq .Values.store.mode "bundled" }}
- name: NEEV_STORE_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "neev-gateway.storeSecret" . }}
      key: {{ include "neev-gateway.storeSecretEntry" . }}
{{- else if and (eq .Values.store.mode "external") $external.existingSecret (not $external.existingSecretUrlKey) }}
- name: NEEV_STORE_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $external.existingSecret }}
      key: {{ $external.existingSecretPasswordKey }}
{{- end }}
{{- if and (eq .Values.store.mode "external") $external.existingSecretUrlKey }}
- name: NEEV_STORE
  valueFrom:
    secretKeyRef:
      name: {{ $external.existingSecret }}
      key: {{ $external.existingSecretUrlKey }}
{{- else }}
- name: NEEV_STORE
  value: {{ include "neev-gateway.storeUrl" . | quote }}
{{- end }}
{{- end }}

{{- define "neev-gateway.env" -}}
- name: HOME
  value: /tmp
- name: NEEV_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.upstream.existingSecret }}
      key: {{ .Values.upstream.existingSecretKey }}
- name: LITELLM_MASTER_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "neev-gateway.masterKeySecret" . }}
      key: {{ include "neev-gateway.masterKeyEntry" . }}
{{- with .Values.upstream.baseUrl }}
- name: NEEV_BASE_URL
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Mounts that every container of ours has. */}}
{{- define "neev-gateway.storeCaMount" -}}
{{- if and (eq .Values.store.mode "external") .Values.store.external.tls.caSecret }}
- name: store-ca
  mountPath: {{ include "neev-gateway.storeCaDir" . }}
  readOnly: true
{{- end }}
{{- end }}

{{- define "neev-gateway.storeCaVolume" -}}
{{- with .Values.store.external.tls }}
{{- if and (eq $.Values.store.mode "external") .caSecret }}
- name: store-ca
  secret:
    secretName: {{ .caSecret }}
    defaultMode: 0444
    items:
      - key: {{ .caSecretKey }}
        path: ca.crt
{{- end }}
{{- end }}
{{- end }}

{{/* Seconds. */}}
{{- define "neev-gateway.terminationGracePeriodSeconds" -}}
{{- $needed := add .Values.drain.preStopSeconds .Values.drain.graceSeconds 20 }}
{{- default $needed .Values.terminationGracePeriodSeconds }}
{{- end }}

{{- define "neev-gateway.podDefaults" -}}
serviceAccountName: {{ include "neev-gateway.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where a pod may run. */}}
{{- define "neev-gateway.placement" -}}
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

{{/* What the bundled Valkey reads. */}}
{{- define "neev-gateway.storeFiles" -}}
valkey.conf: |
  {{- .Files.Get "files/valkey/valkey.conf" | trim | nindent 2 }}
  maxmemory {{ .Values.store.bundled.maxMemory }}
  {{- with .Values.store.bundled.extraConfig }}
  {{- . | trim | nindent 2 }}
  {{- end }}
start.sh: |
  {{- .Files.Get "files/valkey/start.sh" | trim | nindent 2 }}
ping.sh: |
  {{- .Files.Get "files/valkey/ping.sh" | trim | nindent 2 }}
{{- end }}

{{/* The network policy's rule for looking up names. */}}
{{- define "neev-gateway.dnsEgress" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

{{/* The network policy's rule for the store. */}}
{{- define "neev-gateway.storeEgress" -}}
{{- if eq .Values.store.mode "bundled" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "neev-gateway.selectorLabels" (list . "store") | nindent 10 }}
  ports:
    - {port: 6379, protocol: TCP}
{{- else if eq .Values.store.mode "external" -}}
- ports:
    {{- range .Values.networkPolicy.storePorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.store }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
