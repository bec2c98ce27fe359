/**
 * System calls that programs may not make, in addition to having no privileges: mounts and namespaces, other processes' memory, keys,
 * kernel modules, eBPF, io_uring, and kinds of sockets that network namespaces do not confine (vsock reaches the host of a virtual
 * machine). They fail with EPERM, so that a program continues and can report it. Only clone3, for which C libraries have a fallback,
 * fails with ENOSYS.
 *
 * The list names what is refused, not what is allowed, since the run times of languages differ widely. The wall is made of namespaces,
 * missing capabilities and the read-only system; the filter only reduces the kernel's attack surface.
 */
interface Machine {
  /** AUDIT_ARCH_*. */
  readonly arch: number;
  readonly refused: readonly number[];
  readonly clone: number;
  readonly socket: number;
  readonly ioctl: number;
}

/** Numbers that are the same on all machines: new mounts, io_uring, pidfd_getfd. */
const common = [425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442];

const machines: Readonly<Record<string, Machine>> = {
  x64: {
    arch: 0xc000003e,
    refused: [
      101, 103, 153, 154, 155, 159, 161, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173, 175, 176, 179, 180, 212, 227, 246, 248, 249,
      250, 256, 272, 279, 298, 303, 304, 305, 308, 310, 311, 312, 313, 320, 321, 323, 461,
    ],
    clone: 56,
    socket: 41,
    ioctl: 16,
  },
  arm64: {
    arch: 0xc00000b7,
    refused: [
      18, 39, 40, 41, 42, 51, 58, 60, 89, 97, 104, 105, 106, 112, 116, 117, 142, 161, 162, 170, 171, 217, 218, 219, 224, 225, 238, 239, 241,
      264, 265, 266, 268, 270, 271, 272, 273, 280, 282, 294, 461,
    ],
    clone: 220,
    socket: 198,
    ioctl: 29,
  },
};

const clone3 = 435;
const allow = 0x7fff0000;
const kill = 0x80000000;
const refuse = (errno: number): number => 0x00050000 | errno;
const [eperm, enosys] = [1, 38];
/** CLONE_NEW*: user, pid, net, mount, cgroup, uts, ipc. */
const newNamespaces = 0x7e020000;
/** AF_UNIX, AF_INET, AF_INET6, AF_NETLINK (which name resolution asks for interfaces). */
const families = [1, 2, 10, 16];
/** TIOCSTI and TIOCLINUX, which would type into the terminal that started this process. */
const ioctls = [0x5412, 0x541c];

const [ld, jeq, jge, jset, ret] = [0x20, 0x15, 0x35, 0x45, 0x06];
const offset = { number: 0, arch: 4, argument: (n: number) => 16 + 8 * n };

/** Builds the filter for bubblewrap, or `undefined` for a machine whose call numbers are not known here. */
export function seccompFilter(machine: string = process.arch): Buffer | undefined {
  const known = machines[machine];
  if (!known) return undefined;
  const program: { code: number; k: number; jt: number; jf: number }[] = [];
  const add = (code: number, k: number, jt = 0, jf = 0): void => void program.push({ code, k, jt, jf });
  add(ld, offset.arch);
  add(jeq, known.arch, 1, 0);
  add(ret, kill);
  add(ld, offset.number);
  // The x32 calls of x86-64 have other numbers for the same calls.
  add(jge, 0x40000000, 0, 1);
  add(ret, refuse(eperm));
  for (const number of [...known.refused, ...common]) {
    add(jeq, number, 0, 1);
    add(ret, refuse(eperm));
  }
  // The flags of clone3 are in memory, where a filter can't read them; C libraries fall back to clone.
  add(jeq, clone3, 0, 1);
  add(ret, refuse(enosys));
  add(jeq, known.clone, 0, 4);
  add(ld, offset.argument(0));
  add(jset, newNamespaces, 0, 1);
  add(ret, refuse(eperm));
  add(ret, allow);
  add(jeq, known.socket, 0, families.length + 3);
  add(ld, offset.argument(0));
  for (const [i, family] of families.entries()) add(jeq, family, families.length - i, 0);
  add(ret, refuse(eperm));
  add(ret, allow);
  add(jeq, known.ioctl, 0, ioctls.length + 3);
  add(ld, offset.argument(1));
  for (const [i, request] of ioctls.entries()) add(jeq, request, ioctls.length - i, 0);
  add(ret, allow);
  add(ret, refuse(eperm));
  add(ret, allow);
  const filter = Buffer.alloc(program.length * 8);
  for (const [i, { code, jt, jf, k }] of program.entries()) {
    filter.writeUInt16LE(code, i * 8);
    filter.writeUInt8(jt, i * 8 + 2);
    filter.writeUInt8(jf, i * 8 + 3);
    filter.writeUInt32LE(k >>> 0, i * 8 + 4);
  }
  return filter;
}
