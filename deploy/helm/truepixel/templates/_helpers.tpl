{{- define "truepixel.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "truepixel.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "truepixel.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "truepixel.labels" -}}
{{ include "truepixel.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "truepixel.codeHost" -}}
{{ .Values.codeLocation.host | default (printf "%s-code" (include "truepixel.fullname" .)) }}
{{- end }}

{{- /* What every pod's spec has. */ -}}
{{- define "truepixel.pod" -}}
enableServiceLinks: false
hostNetwork: {{ .Values.hostNetwork }}
{{- if .Values.hostNetwork }}
dnsPolicy: ClusterFirstWithHostNet
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "truepixel.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What Dagster's own processes know: where its history is. */ -}}
{{- define "truepixel.dagsterEnv" -}}
- name: TRUEPIXEL_POSTGRES_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.postgres }}, key: TRUEPIXEL_POSTGRES_URL}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "truepixel.settings" -}}
- {name: TRUEPIXEL_LANES, value: {{ .Values.lanes | int | quote }}}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ include "truepixel.text" $value | quote }}}
{{- end }}
{{- end }}

{{- /* What the pipeline's own processes know, too. */ -}}
{{- define "truepixel.env" -}}
{{ include "truepixel.settings" . }}
{{ include "truepixel.dagsterEnv" . }}
{{- end }}

{{- /* A value as text: Helm reads large numbers as floats and would write 1.048576e+06. */ -}}
{{- define "truepixel.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- define "truepixel.envFrom" -}}
{{- range .Values.secrets.stores }}
- secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{- /* All that is written to on a read-only root file system. */ -}}
{{- define "truepixel.volumes" -}}
- {name: tmp, emptyDir: {}}
- {name: dagster-home, emptyDir: {}}
{{- end }}

{{- define "truepixel.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: dagster-home, mountPath: /opt/dagster}
{{- end }}

{{- define "truepixel.instanceVolume" -}}
- {name: instance, configMap: {name: {{ include "truepixel.fullname" . }}-instance}}
{{- end }}

{{- define "truepixel.instanceMounts" -}}
- {name: instance, mountPath: /opt/dagster/dagster.yaml, subPath: dagster.yaml, readOnly: true}
- {name: instance, mountPath: /opt/dagster/workspace.yaml, subPath: workspace.yaml, readOnly: true}
{{- end }}

{{- define "truepixel.rollout" -}}
{{- /* In its node's network a new pod has no port before the old one is gone. */ -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: {{ .Values.hostNetwork | ternary 0 1 }}
  maxUnavailable: {{ .Values.hostNetwork | ternary 1 0 }}
{{- end }}
