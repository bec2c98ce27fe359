interface Context {
  readonly privileged?: boolean;
  readonly allowPrivilegeEscalation?: boolean;
  readonly runAsNonRoot?: boolean;
  readonly runAsUser?: number;
  readonly procMount?: string;
  readonly capabilities?: { readonly add?: readonly string[]; readonly drop?: readonly string[] };
  readonly seccompProfile?: { readonly type?: string };
}
interface Container {
  readonly name: string;
  readonly securityContext?: Context;
  readonly ports?: readonly { readonly hostPort?: number }[];
}
interface Pod {
  readonly hostNetwork?: boolean;
  readonly hostPID?: boolean;
  readonly hostIPC?: boolean;
  readonly securityContext?: Context & { readonly sysctls?: readonly { readonly name: string }[] };
  readonly containers: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly volumes?: readonly Record<string, unknown>[];
}

const volumes = new Set(['configMap', 'csi', 'downwardAPI', 'emptyDir', 'ephemeral', 'persistentVolumeClaim', 'projected', 'secret']);
const sysctls = new Set([
  'kernel.shm_rmid_forced',
  'net.ipv4.ip_local_port_range',
  'net.ipv4.ip_unprivileged_port_start',
  'net.ipv4.tcp_syncookies',
  'net.ipv4.ping_group_range',
]);

/**
 * Lists the rules of the `restricted` profile of Kubernetes' Pod Security Standards (as of 1.31) that a pod breaks. A namespace that
 * enforces the profile accepts the pod if the list is empty.
 */
export function restrictedViolations(pod: Pod): readonly string[] {
  const found: string[] = [];
  const check = (broken: boolean | undefined, what: string): void => {
    if (broken) found.push(what);
  };
  check(pod.hostNetwork || pod.hostPID || pod.hostIPC, 'the pod shares a namespace of its node');
  for (const { name } of pod.securityContext?.sysctls ?? []) check(!sysctls.has(name), `the sysctl ${name} is not one of the safe ones`);
  for (const volume of pod.volumes ?? [])
    for (const kind of Object.keys(volume).filter((key) => key !== 'name'))
      check(!volumes.has(kind), `the volume ${volume.name} is of the kind ${kind}`);
  for (const container of [...(pod.initContainers ?? []), ...pod.containers]) {
    const own = container.securityContext ?? {};
    const of = `the container ${container.name}`;
    check(own.privileged, `${of} is privileged`);
    check(own.allowPrivilegeEscalation !== false, `${of} may gain privileges`);
    check((own.runAsNonRoot ?? pod.securityContext?.runAsNonRoot) !== true, `${of} may run as root`);
    check((own.runAsUser ?? pod.securityContext?.runAsUser) === 0, `${of} runs as user 0`);
    check(!own.capabilities?.drop?.includes('ALL'), `${of} keeps capabilities`);
    check(
      (own.capabilities?.add ?? []).some((one) => one !== 'NET_BIND_SERVICE'),
      `${of} adds capabilities`,
    );
    const seccomp = (own.seccompProfile ?? pod.securityContext?.seccompProfile)?.type;
    check(seccomp !== 'RuntimeDefault' && seccomp !== 'Localhost', `${of} has no seccomp profile`);
    check(own.procMount !== undefined && own.procMount !== 'Default', `${of} mounts proc in another way`);
    check(
      (container.ports ?? []).some(({ hostPort }) => hostPort),
      `${of} uses a port of its node`,
    );
  }
  return found;
}
