{{/*
Values that contradict each other. Each message says what to change; all of them are shown at once. What a single value
may be is in values.schema.json.
*/}}
{{- define "neev-gateway.problems" -}}
{{- $store := .Values.store }}
{{- $external := $store.external }}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled }}
- autoscaling.enabled and keda.enabled would scale the same pods: switch one of them off.
{{- end }}
{{- if and .Values.keda.enabled (not .Values.keda.triggers) }}
- keda.enabled needs at least one entry in keda.triggers.
{{- end }}
{{- if and .Values.autoscaling.enabled (not .Values.autoscaling.targetCPUUtilizationPercentage) (not .Values.autoscaling.metrics) }}
- autoscaling.enabled has nothing to scale by: set autoscaling.targetCPUUtilizationPercentage or autoscaling.metrics.
{{- end }}
{{- if and .Values.autoscaling.enabled .Values.autoscaling.targetCPUUtilizationPercentage (not (dig "requests" "cpu" "" .Values.gateway.resources)) }}
- autoscaling by CPU needs gateway.resources.requests.cpu, of which it is a share.
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
- autoscaling.minReplicas is more than autoscaling.maxReplicas.
{{- end }}
{{- if and .Values.keda.enabled (gt (int .Values.keda.minReplicaCount) (int .Values.keda.maxReplicaCount)) }}
- keda.minReplicaCount is more than keda.maxReplicaCount.
{{- end }}
{{- range (include "neev-gateway.declared" . | fromYaml).keys }}
{{- if not .token }}
- the key {{ .alias }} in keysConfig names no token, so a random one would stand in the Job's log: give it `token: os.environ/NAME`, and put what `neev-gateway keys new-token` prints into the Secret that keysJob.existingSecret names.
{{- else if not (hasPrefix "os.environ/" .token) }}
- the key {{ .alias }} in keysConfig holds a token itself, which would stand in a ConfigMap: put it into the Secret that keysJob.existingSecret names, and write `token: os.environ/NAME`.
{{- end }}
{{- end }}
{{- if eq $store.mode "embedded" }}
{{- if or (gt (int .Values.replicaCount) 1) .Values.autoscaling.enabled .Values.keda.enabled }}
- store.mode=embedded keeps keys and budgets in the pod, so several pods would each count on their own: set replicaCount=1 without autoscaling, or store.mode to bundled or external.
{{- end }}
{{- if and .Values.keysJob.enabled (include "neev-gateway.hasKeys" .) }}
- keysConfig needs a store that the Job can reach, store.mode=embedded is inside the pod: use bundled or external, or set keysJob.enabled=false.
{{- end }}
{{- end }}
{{- if and (eq $store.mode "bundled") (not (or $store.bundled.image.tag $store.bundled.image.digest)) }}
- store.bundled.image names no version: set store.bundled.image.tag or digest.
{{- end }}
{{- if eq $store.mode "external" }}
{{- if $external.existingSecretUrlKey }}
{{- if not $external.existingSecret }}
- store.external.existingSecretUrlKey needs store.external.existingSecret, the Secret that has it.
{{- end }}
{{- if $external.url }}
- store.external.url and store.external.existingSecretUrlKey both say where the store is: leave one of them empty.
{{- end }}
{{- if $external.tls.caSecret }}
- store.external.tls.caSecret cannot be added to a URL out of a Secret: end that URL with ?ssl_ca_certs=/path, and mount the file with extraVolumes and gateway.extraVolumeMounts.
{{- end }}
{{- else if not $external.url }}
- store.mode=external needs a store: set store.external.url, or store.external.existingSecret with existingSecretUrlKey. Without one use store.mode=bundled.
{{- else }}
{{- if contains "@" $external.url }}
- store.external.url holds a user or password: put the user in store.external.username and the password in the Secret that store.external.existingSecret names.
{{- end }}
{{- if and $external.username (not $external.existingSecret) }}
- store.external.username needs the password's Secret in store.external.existingSecret.
{{- end }}
{{- if and $external.tls.caSecret (not (hasPrefix "rediss" $external.url)) }}
- store.external.tls.caSecret is of no use without TLS: begin store.external.url with rediss.
{{- end }}
{{- end }}
{{- else if or $external.url $external.existingSecret $external.existingSecretUrlKey }}
- store.external names a store, but store.mode is {{ $store.mode }}: set store.mode=external.
{{- end }}
{{- /* Beyond the grace: cut requests are settled (6 s), then LiteLLM, which ends last, reports its own (5 s). */}}
{{- $needed := add .Values.drain.preStopSeconds .Values.drain.graceSeconds 15 }}
{{- with .Values.terminationGracePeriodSeconds }}
{{- if lt (int .) (int $needed) }}
- terminationGracePeriodSeconds={{ . }} is shorter than the drain: at least {{ $needed }} (drain.preStopSeconds + drain.graceSeconds + 15), or lower those.
{{- end }}
{{- end }}
{{- if and (not .Values.metrics.enabled) (or .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled .Values.metrics.prometheusRule.enabled .Values.metrics.dashboards.enabled) }}
- metrics.serviceMonitor, podMonitor, prometheusRule and dashboards need metrics.enabled=true.
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
- metrics.serviceMonitor and metrics.podMonitor would collect everything twice: switch one of them off.
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
- ingress.enabled needs at least one entry in ingress.hosts.
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
- httpRoute.enabled needs the Gateway in httpRoute.parentRefs.
{{- end }}
{{- with .Values.externalSecrets }}
{{- if .enabled }}
{{- if not .secretStoreRef.name }}
- externalSecrets.enabled needs externalSecrets.secretStoreRef.name.
{{- end }}
{{- if not (or .upstream .masterKey) }}
- externalSecrets.enabled has nothing to fetch: set externalSecrets.upstream or externalSecrets.masterKey.
{{- end }}
{{- if and .masterKey (not $.Values.masterKey.existingSecret) }}
- externalSecrets.masterKey needs the name of the Secret that it makes in masterKey.existingSecret.
{{- end }}
{{- end }}
{{- end }}
{{- $own := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/managed-by" "app.kubernetes.io/version" "helm.sh/chart" }}
{{- range $setting, $labels := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels }}
{{- range $label, $_ := $labels }}
{{- if or (has $label $own) (and (eq $setting "podLabels") (eq $label "app.kubernetes.io/part-of")) }}
- {{ $setting }} sets {{ $label }}, which stands there already: choose another label{{ if has $label $own }}, or set nameOverride or the release's name{{ end }}.
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.service }}
{{- if and .nodePort (eq .type "ClusterIP") }}
- service.nodePort needs service.type=NodePort or LoadBalancer.
{{- end }}
{{- if and .externalTrafficPolicy (eq .type "ClusterIP") }}
- service.externalTrafficPolicy needs service.type=NodePort or LoadBalancer.
{{- end }}
{{- if and .loadBalancerClass (ne .type "LoadBalancer") }}
- service.loadBalancerClass needs service.type=LoadBalancer.
{{- end }}
{{- if and .loadBalancerSourceRanges (ne .type "LoadBalancer") }}
- service.loadBalancerSourceRanges needs service.type=LoadBalancer.
{{- end }}
{{- end }}
{{- with .Values.networkPolicy }}
{{- if and .enabled (not .extraEgress) }}
{{- $ports := list }}{{ range .storePorts }}{{ $ports = append $ports (toString .) }}{{ end }}
{{- if eq $store.mode "external" }}
{{- range include "neev-gateway.urlPorts" $external.url | splitList " " | uniq }}
{{- if and . (not (has . $ports)) }}
- store.external.url has port {{ . }}, which the network policy does not let through: add it to networkPolicy.storePorts.
{{- end }}
{{- end }}
{{- end }}
{{- $ports = list }}{{ range .upstreamPorts }}{{ $ports = append $ports (toString .) }}{{ end }}
{{- with $.Values.upstream.baseUrl }}
{{- $port := default (ternary "443" "80" (hasPrefix "https:" .)) (include "neev-gateway.urlPorts" .) }}
{{- if not (has $port $ports) }}
- upstream.baseUrl has port {{ $port }}, which the network policy does not let through: add it to networkPolicy.upstreamPorts, and the host to networkPolicy.upstream if it is in a private network.
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.podDisruptionBudget }}
{{- if and .enabled (eq (toString .minAvailable) "") (has (toString .maxUnavailable) (list "0" "0%")) }}
- podDisruptionBudget.maxUnavailable={{ .maxUnavailable }} lets no node ever be emptied: set at least 1, or podDisruptionBudget.enabled=false.
{{- end }}
{{- $setting := "replicaCount" }}{{ $fewest := int $.Values.replicaCount }}
{{- if $.Values.autoscaling.enabled }}
{{- $setting = "autoscaling.minReplicas" }}{{ $fewest = int $.Values.autoscaling.minReplicas }}
{{- else if $.Values.keda.enabled }}
{{- $setting = "keda.minReplicaCount" }}{{ $fewest = int $.Values.keda.minReplicaCount }}
{{- end }}
{{- /* Kubernetes rounds a share up. Without any pod there is none to move; the first is one. */}}
{{- $kept := toString .minAvailable }}
{{- if hasSuffix "%" $kept }}
{{- $kept = div (add (mul (trimSuffix "%" $kept | int) (max $fewest 1)) 99) 100 }}
{{- end }}
{{- if and .enabled (int $kept | lt 0) (ge (int $kept) (int (max $fewest 1))) }}
- podDisruptionBudget.minAvailable={{ .minAvailable }} of {{ $setting }}={{ $fewest }} lets no node ever be emptied: use maxUnavailable, or raise {{ $setting }}.
{{- end }}
{{- end }}
{{- if and .Values.litellm.enabled (or (eq (int .Values.litellm.port) 4000) (and .Values.metrics.enabled (eq (int .Values.litellm.port) (int .Values.metrics.port)))) }}
- litellm.port={{ .Values.litellm.port }} is another container's port: choose another one.
{{- end }}
{{- if and .Values.metrics.enabled (eq (int .Values.metrics.port) 4000) }}
- metrics.port=4000 is the API's port: choose another one.
{{- end }}
{{- include "neev-gateway.configProblems" . }}
{{- end }}

{{/* Settings of proxy_config.yaml that the chart decides elsewhere, and secrets that stand in it. */}}
{{- define "neev-gateway.configProblems" -}}
{{- $config := .Values.proxyConfig }}
{{- if kindIs "string" $config }}
{{- $config = fromYaml $config }}
{{- if hasKey $config "Error" }}
- proxyConfig is not YAML: {{ $config.Error }}
{{- $config = dict "model_list" (list dict) }}
{{- end }}
{{- end }}
{{- if not $config.model_list }}
- proxyConfig.model_list is empty: a gateway needs a model.
{{- end }}
{{- $neev := default dict $config.neev }}
{{- $server := default dict $neev.server }}
{{- range $setting, $value := dict "host" "gateway.host" "port" "service.port" "metrics_port" "metrics.port" "workers" "gateway.workers" "grace" "drain.graceSeconds" "drain_delay" "drain.preStopSeconds" }}
{{- if hasKey $server $setting }}
- proxyConfig.neev.server.{{ $setting }} is the chart's to say: remove it and set {{ $value }}.
{{- end }}
{{- end }}
{{- if hasKey $neev "store" }}
- proxyConfig.neev.store is the chart's to say: remove it and set store.mode.
{{- end }}
{{- if hasKey (default dict $neev.litellm) "enabled" }}
- proxyConfig.neev.litellm.enabled is the chart's to say: remove it and set litellm.enabled.
{{- end }}
{{- range $setting, $value := dict "level" "gateway.logLevel" "format" "gateway.logFormat" }}
{{- if hasKey (default dict $neev.log) $setting }}
- proxyConfig.neev.log.{{ $setting }} is the chart's to say: remove it and set {{ $value }}.
{{- end }}
{{- end }}
{{- $general := default dict $config.general_settings }}
{{- if and $general.master_key (not (hasPrefix "os.environ/" $general.master_key)) }}
- proxyConfig.general_settings.master_key stands in a ConfigMap that many may read: write os.environ/LITELLM_MASTER_KEY and name a Secret in masterKey.existingSecret.
{{- end }}
{{- range $index, $entry := default list $config.model_list }}
{{- $key := dig "litellm_params" "api_key" "" $entry }}
{{- if and $key (not (hasPrefix "os.environ/" $key)) }}
- proxyConfig.model_list[{{ $index }}].litellm_params.api_key stands in a ConfigMap that many may read: write os.environ/NAME and give NAME by gateway.extraEnv from a Secret.
{{- end }}
{{- end }}
{{- range $index, $entry := default list $neev.keys }}
{{- if not (hasPrefix "os.environ/" (default "" $entry.key)) }}
- proxyConfig.neev.keys[{{ $index }}].key stands in a ConfigMap that many may read: write os.environ/NAME and give NAME by gateway.extraEnv from a Secret.
{{- end }}
{{- end }}
{{- end }}

{{/* The ports that a URL names, with blanks between them; one of a store may hold several hosts. */}}
{{- define "neev-gateway.urlPorts" -}}
{{- $hosts := regexReplaceAll `^[^:]*://` . "" }}
{{- $hosts = regexReplaceAll `[/?].*$|\[[^\]]*\]` $hosts "" }}
{{- regexFindAll `:[0-9]+` $hosts -1 | join " " | replace ":" "" }}
{{- end }}
