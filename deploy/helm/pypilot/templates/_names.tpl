{{- /* Names, labels and the parts that several templates share. */ -}}
{{- define "pypilot.suffix" -}}
{{- if ne .Values.revision "default" }}-{{ .Values.revision }}{{ end }}
{{- end -}}
{{- define "pypilot.name" -}}pypilot{{ include "pypilot.suffix" . }}{{- end -}}
{{- define "pypilot.service" -}}istiod{{ include "pypilot.suffix" . }}{{- end -}}
{{- define "pypilot.injector" -}}
istio-sidecar-injector{{ include "pypilot.suffix" . }}
{{- if ne .Release.Namespace "istio-system" }}-{{ .Release.Namespace }}{{ end }}
{{- end -}}
{{- define "pypilot.account" -}}
{{- .Values.serviceAccount.name | default (include "pypilot.name" .) }}
{{- end -}}
{{- define "pypilot.labels" -}}
app.kubernetes.io/name: pypilot
app.kubernetes.io/part-of: pypilot
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
{{- define "pypilot.selector" -}}
app: {{ include "pypilot.service" . }}
istio: pilot
{{- end -}}
{{- define "pypilot.image" -}}
{{- .image.repository }}:{{ .image.tag | default .version }}
{{- end -}}
{{- define "pypilot.gatewayLabels" -}}
app: {{ .Values.gateway.name }}
{{- range $key, $value := .Values.gateway.labels }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end -}}
{{- /* The rules of `pypilot rbac`, for this release's namespace and revision. */ -}}
{{- define "pypilot.rules" -}}
{{- $webhook := printf "pypilot-validator%s-%s" (include "pypilot.suffix" .) .Release.Namespace }}
{{- $injector := include "pypilot.injector" . }}
{{- $lease := printf "pypilot-leader%s" (include "pypilot.suffix" .) }}
{{- .Files.Get "files/rules.yaml" | replace "pypilot-validator-istio-system" $webhook | replace "istio-sidecar-injector" $injector | replace "pypilot-leader" $lease }}
{{- end -}}
{{- /* Where a pod may run. */ -}}
{{- define "pypilot.placement" -}}
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
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
