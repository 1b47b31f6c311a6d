{{/* What pods of every component share: (dict "root" $ "component" "ingest" "values" .Values.ingest "grace" 45). */}}
{{- define "meterplane.podMetadata" -}}
labels:
  {{- include "meterplane.selector" . | nindent 2 }}
  app.kubernetes.io/part-of: meterplane
  {{- with .root.Values.pods.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge dict (.annotations | default dict) .root.Values.pods.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "meterplane.podSpec" -}}
serviceAccountName: {{ .component }}
automountServiceAccountToken: {{ .api | default false }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .grace }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with .root.Values.pods.runAsUser }}
  runAsUser: {{ int . }}
  runAsGroup: {{ int . }}
  fsGroup: {{ int . }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.pods.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "meterplane.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{/* What containers of every component share. */}}
{{- define "meterplane.container" -}}
name: {{ .component }}
image: {{ include "meterplane.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [/usr/local/bin/{{ .component }}]
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
resources:
  {{- toYaml .values.resources | nindent 2 }}
{{- end }}

{{/* The pod goes on answering while those who route to it learn that it ends. */}}
{{- define "meterplane.preStop" -}}
lifecycle:
  preStop:
    sleep: {seconds: 5}
{{- end }}

{{/* Environment that every component has. */}}
{{- define "meterplane.env" -}}
- {name: MP_LOG, value: {{ .root.Values.logs.filter | quote }}}
- {name: MP_LOG_FORMAT, value: {{ .root.Values.logs.format }}}
- {name: MP_ADMIN_LISTEN, value: "0.0.0.0:9090"}
{{- $user := index .root.Values.nats.users .component }}
- {name: MP_NATS_URL, value: {{ required "nats.url: where NATS is, tls://host:port or nats://host:port" .root.Values.nats.url | quote }}}
- {name: MP_NATS_USER, value: {{ $user.name | quote }}}
- {name: MP_NATS_PASSWORD_FILE, value: /var/run/secrets/meterplane/nats/password}
{{- include "meterplane.env.ca" (merge (dict "store" "nats") .) }}
{{- end }}

{{- define "meterplane.env.clickhouse" -}}
{{- $user := index .root.Values.clickhouse.users .component }}
- {name: MP_CLICKHOUSE_URL, value: {{ required "clickhouse.url: where ClickHouse is, https://host:port or http://host:port" .root.Values.clickhouse.url | quote }}}
- {name: MP_CLICKHOUSE_USER, value: {{ $user.name | quote }}}
- {name: MP_CLICKHOUSE_PASSWORD_FILE, value: /var/run/secrets/meterplane/clickhouse/password}
{{- include "meterplane.env.ca" (merge (dict "store" "clickhouse") .) }}
{{- end }}

{{- define "meterplane.env.vault" -}}
- {name: MP_VAULT_ADDR, value: {{ required "vault.address: where Vault is, http://host:port or https://host" .root.Values.vault.address | quote }}}
- {name: MP_VAULT_ROLE, value: {{ index .root.Values.vault.roles .component | quote }}}
- {name: MP_VAULT_JWT_FILE, value: /var/run/secrets/meterplane/vault/token}
{{- include "meterplane.env.ca" (merge (dict "store" "vault") .) }}
{{- end }}

{{/* Whom it believes, if that is said: (dict … "store" "nats"). */}}
{{- define "meterplane.env.ca" -}}
{{- $values := index .root.Values .store }}
{{- if or $values.ca.secret $values.ca.configMap }}
{{- if not (regexMatch "^(tls|https)://" ($values.url | default $values.address)) }}
{{- fail (printf "%s.ca: its address is a plain one, where nobody is asked for a certificate" .store) }}
{{- end }}
- {name: MP_{{ upper .store }}_CA_FILE, value: /var/run/secrets/meterplane/{{ .store }}/ca.crt}
{{- end }}
{{- end }}

{{/* The same as a source of a projected volume. The folder is mounted whole, so that a change arrives. */}}
{{- define "meterplane.source.ca" -}}
{{- with index .root.Values .store "ca" }}
{{- if .secret }}
- secret: {name: {{ .secret }}, items: [{key: {{ .key }}, path: ca.crt}]}
{{- else if .configMap }}
- configMap: {name: {{ .configMap }}, items: [{key: {{ .key }}, path: ca.crt}]}
{{- end }}
{{- end }}
{{- end }}

{{/* What its user of NATS or ClickHouse proves itself with: (dict … "store" "nats"). */}}
{{- define "meterplane.mount.password" -}}
- {name: {{ .store }}, mountPath: /var/run/secrets/meterplane/{{ .store }}, readOnly: true}
{{- end }}

{{- define "meterplane.volume.password" -}}
{{- $user := index .root.Values .store "users" .component }}
- name: {{ .store }}
  projected:
    defaultMode: 0440
    sources:
    - secret: {name: {{ $user.secret }}, items: [{key: {{ $user.key }}, path: password}]}
    {{- include "meterplane.source.ca" . | nindent 4 }}
{{- end }}

{{/* A token that only Vault accepts; the kubelet replaces it before it ends. */}}
{{- define "meterplane.mount.vault" -}}
- {name: vault, mountPath: /var/run/secrets/meterplane/vault, readOnly: true}
{{- end }}

{{- define "meterplane.volume.vault" -}}
- name: vault
  projected:
    defaultMode: 0440
    sources:
    - serviceAccountToken: {audience: {{ .root.Values.vault.audience | quote }}, expirationSeconds: 3600, path: token}
    {{- include "meterplane.source.ca" (merge (dict "store" "vault") .) | nindent 4 }}
{{- end }}

{{/* The public keys that policy snapshots are trusted by. */}}
{{- define "meterplane.trust" -}}
{{- if not .Values.trust.keys }}
{{- fail "trust.keys: the public keys of vault's transit key mp-platform-snapshots, version to key" }}
{{- end }}
{{- dict "keys" .Values.trust.keys | toJson }}
{{- end }}

{{- define "meterplane.mount.trust" -}}
- {name: trust, mountPath: /etc/meterplane, readOnly: true}
{{- end }}

{{- define "meterplane.volume.trust" -}}
- name: trust
  configMap: {name: meterplane-trust}
{{- end }}
