{{/* Labels that select the pods of a component: (dict "root" $ "component" "ingest"). */}}
{{- define "meterplane.selector" -}}
app.kubernetes.io/name: meterplane
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* Labels of every object; "component" is optional. */}}
{{- define "meterplane.labels" -}}
{{ include "meterplane.selector" . }}
app.kubernetes.io/part-of: meterplane
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") }}
{{- end }}

{{/* Name, namespace and labels of an object: (dict "root" $ "name" … "component" …). */}}
{{- define "meterplane.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "meterplane.labels" . | nindent 2 }}
{{- end }}

{{/*
The objects of a file of manifests/, which the developer's platform applies as they are: (dict "root" $ "file" "manifests/rbac.yaml").
Here they get the release's namespace and labels.
*/}}
{{- define "meterplane.manifests" -}}
{{- $root := .root }}
{{- $file := .file }}
{{- range $document := regexSplit "(?m)^---$" ($root.Files.Get $file) -1 }}
{{- $object := fromYaml $document }}
{{- if hasKey $object "Error" }}
{{- fail (printf "%s: %s" $file (get $object "Error")) }}
{{- end }}
{{- if $object.kind }}
{{- $labels := include "meterplane.labels" (dict "root" $root) | fromYaml }}
{{- $_ := set $object.metadata "labels" (merge dict ($object.metadata.labels | default dict) $labels) }}
{{- if $object.metadata.namespace }}
{{- $_ := set $object.metadata "namespace" $root.Release.Namespace }}
{{- end }}
{{- range $subject := $object.subjects }}
{{- $_ := set $subject "namespace" $root.Release.Namespace }}
{{- end }}
{{- range $webhook := $object.webhooks }}
{{- $_ := set $webhook.clientConfig.service "namespace" $root.Release.Namespace }}
{{- end }}
---
{{ toYaml $object }}
{{ end }}
{{- end }}
{{- end }}

{{- define "meterplane.image" -}}
{{- $repository := required "image.repository: the registry and name that you pushed the image to" .Values.image.repository }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* The ports of a list of URLs, as a JSON list: (dict "urls" (list …) "default" 4222). */}}
{{- define "meterplane.ports" -}}
{{- $ports := list }}
{{- range .urls }}
{{- range $url := splitList "," . }}
{{- $host := (urlParse (trim $url)).host }}
{{- $port := regexFind ":[0-9]+$" $host | trimPrefix ":" }}
{{- $ports = append $ports (int ($port | default $.default)) }}
{{- end }}
{{- end }}
{{- $ports | uniq | toJson }}
{{- end }}
