{{- define "labels" -}}
{{ include "selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* Nothing may write to the root, be root, or become it. */ -}}
{{- define "confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* The Secret with the keys; empty where there are none on purpose. */ -}}
{{- define "keys" -}}
{{- $keys := .Values.keys -}}
{{- if ne 1 (len (compact (list $keys.existingSecret $keys.list $keys.none))) -}}
{{- fail "values: set one of keys.existingSecret, keys.list and keys.none: replicas must share their keys" -}}
{{- end -}}
{{- if $keys.list }}{{ .Release.Name }}-keys{{ else }}{{ $keys.existingSecret }}{{ end -}}
{{- end }}

{{- /* Where the archive comes from: url, image, claim; empty where it lies in the image. */ -}}
{{- define "source" -}}
{{- $sources := list -}}
{{- range $name := list "url" "image" "claim" -}}
{{- if index $.Values.model $name }}{{ $sources = append $sources $name }}{{ end -}}
{{- end -}}
{{- if gt (len $sources) 1 -}}
{{- fail (printf "values: model.%s are both set: an archive comes from one place" (join " and model." $sources)) -}}
{{- end -}}
{{- join "" $sources -}}
{{- end }}
