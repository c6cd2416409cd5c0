{{/* The process that users talk to. */}}
{{- define "neev-gateway.gatewayContainer" -}}
- name: gateway
  image: {{ include "neev-gateway.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args:
    - serve
    - --config={{ include "neev-gateway.configFile" . }}
    - --state={{ include "neev-gateway.stateDir" . }}
    - --host={{ .Values.gateway.host }}
    - --port=4000
    - --metrics-port={{ ternary .Values.metrics.port 0 .Values.metrics.enabled }}
    - --workers={{ .Values.gateway.workers }}
    - --grace={{ .Values.drain.graceSeconds }}
    - --log-level={{ .Values.gateway.logLevel }}
    - --log-format={{ .Values.gateway.logFormat }}
    {{- if eq .Values.store.mode "embedded" }}
    - --store=embedded
    {{- end }}
    {{- if .Values.litellm.enabled }}
    - --litellm-url=http://127.0.0.1:{{ .Values.litellm.port }}
    {{- else }}
    - --no-litellm
    {{- end }}
    {{- with .Values.gateway.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  env:
    {{- include "neev-gateway.env" . | nindent 4 }}
    {{- if ne .Values.store.mode "embedded" }}
    {{- include "neev-gateway.storeEnv" . | trim | nindent 4 }}
    {{- end }}
    {{- with .Values.gateway.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.gateway.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - name: http
      containerPort: 4000
    {{- if .Values.metrics.enabled }}
    - name: metrics
      containerPort: {{ .Values.metrics.port }}
    {{- end }}
  {{- with .Values.gateway.startupProbe }}
  startupProbe:
    httpGet: {path: /healthz, port: http}
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.gateway.readinessProbe }}
  readinessProbe:
    httpGet: {path: /readyz, port: http}
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.gateway.livenessProbe }}
  livenessProbe:
    httpGet: {path: /healthz, port: http}
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.drain.preStopSeconds }}
  lifecycle:
    preStop:
      sleep: {seconds: {{ .Values.drain.preStopSeconds }}}
  {{- end }}
  resources:
    {{- toYaml .Values.gateway.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    {{- include "neev-gateway.mounts" . | nindent 4 }}
{{- end }}

{{/*
LiteLLM, a sidecar: it starts beside the gateway and ends after it, when the last stream through it is done. It listens
on loopback, which the kubelet's HTTP probes cannot reach.
*/}}
{{- define "neev-gateway.litellmContainer" -}}
- name: litellm
  image: {{ include "neev-gateway.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  args:
    - litellm
    - --config={{ include "neev-gateway.configFile" . }}
    - --state={{ include "neev-gateway.stateDir" . }}/litellm
    - --port={{ .Values.litellm.port }}
  env:
    {{- include "neev-gateway.env" . | nindent 4 }}
    {{- include "neev-gateway.storeEnv" . | trim | nindent 4 }}
    {{- if .Values.metrics.enabled }}
    # Where the gateway collects what LiteLLM counts.
    - name: NEEV_METRICS
      value: {{ include "neev-gateway.stateDir" . }}/run/metrics.sock
    {{- end }}
    {{- with .Values.gateway.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.gateway.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.litellm.livenessProbe }}
  livenessProbe:
    exec:
      command:
        - python3
        - -I
        - -c
        - import urllib.request as r; r.urlopen("http://127.0.0.1:{{ $.Values.litellm.port }}/health/liveliness", timeout=8)
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml .Values.litellm.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    {{- include "neev-gateway.mounts" . | nindent 4 }}
{{- end }}

{{- define "neev-gateway.mounts" -}}
- name: config
  mountPath: /etc/neev-gateway
  readOnly: true
- name: state
  mountPath: {{ include "neev-gateway.stateDir" . }}
- name: tmp
  mountPath: /tmp
{{- with include "neev-gateway.storeCaMount" . | trim }}
{{ . }}
{{- end }}
{{- with .Values.gateway.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
