{{- define "dispatch.labels" -}}
app.kubernetes.io/name: compute-dispatch
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Everything but the role of a pod. Takes the root, the role, the port that is probed. */}}
{{- define "dispatch.pod" -}}
{{- $root := index . 0 -}}{{- $role := index . 1 -}}{{- $port := index . 2 -}}{{- $part := index $root.Values $role -}}
serviceAccountName: {{ $root.Release.Name }}-{{ $role }}
automountServiceAccountToken: {{ eq $role "worker" }}
terminationGracePeriodSeconds: 45
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: { app.kubernetes.io/instance: {{ $root.Release.Name }}, app.kubernetes.io/component: {{ $role }} }
containers:
  - name: {{ $role }}
    image: "{{ $root.Values.image.repository }}:{{ $root.Values.image.tag }}"
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    envFrom:
      - secretRef: { name: {{ $root.Values.secretName }} }
    env:
      - { name: DISPATCH_ROLES, value: {{ $role }} }
      {{- if ne $role "api" }}
      - { name: DISPATCH_HEALTH_PORT, value: {{ $port | quote }} }
      {{- end }}
      {{- range $name, $value := $root.Values.env }}
      - { name: {{ $name }}, value: {{ $value | quote }} }
      {{- end }}
    ports:
      - { name: http, containerPort: {{ $port }} }
    # Alive while it answers; a database that is away is no reason to be started again.
    livenessProbe:
      httpGet: { path: /healthz, port: http }
      periodSeconds: 10
      failureThreshold: 3
    readinessProbe:
      httpGet: { path: {{ eq $role "api" | ternary "/healthz" "/readyz" }}, port: http }
      periodSeconds: 5
    startupProbe:
      httpGet: { path: /healthz, port: http }
      periodSeconds: 2
      failureThreshold: 60
    resources: {{- toYaml $part.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: { drop: [ALL] }
{{- end -}}
