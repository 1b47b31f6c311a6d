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
- {name: MP_NATS_URL, value: {{ required "nats.url: where NATS is, nats://host:port" .root.Values.nats.url | quote }}}
- {name: MP_NATS_USER, value: {{ $user.name | quote }}}
- {name: MP_NATS_PASSWORD_FILE, value: /var/run/secrets/meterplane/nats/password}
{{- end }}

{{- define "meterplane.env.clickhouse" -}}
{{- $user := index .root.Values.clickhouse.users .component }}
- {name: MP_CLICKHOUSE_URL, value: {{ required "clickhouse.url: where ClickHouse is, http://host:port" .root.Values.clickhouse.url | quote }}}
- {name: MP_CLICKHOUSE_USER, value: {{ $user.name | quote }}}
- {name: MP_CLICKHOUSE_PASSWORD_FILE, value: /var/run/secrets/meterplane/clickhouse/password}
{{- end }}

{{- define "meterplane.env.vault" -}}
- {name: MP_VAULT_ADDR, value: {{ required "vault.address: where Vault is, http://host:port or https://host" .root.Values.vault.address | quote }}}
- {name: MP_VAULT_ROLE, value: {{ index .root.Values.vault.roles .component | quote }}}
- {name: MP_VAULT_JWT_FILE, value: /var/run/secrets/meterplane/vault/token}
{{- end }}

{{/* What its user of NATS or ClickHouse proves itself with: (dict … "store" "nats"). */}}
{{- define "meterplane.mount.password" -}}
- {name: {{ .store }}, mountPath: /var/run/secrets/meterplane/{{ .store }}, readOnly: true}
{{- end }}

{{- define "meterplane.volume.password" -}}
{{- $user := index .root.Values .store "users" .component }}
- name: {{ .store }}
  secret:
    secretName: {{ $user.secret }}
    defaultMode: 0440
    items: [{key: {{ $user.key }}, path: password}]
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
