import { allowedCalls, newestCall } from './allowed-calls.ts';

/*
 * Programs may make the calls of a list, and no others, in addition to having no privileges. A call that is not on it fails with EPERM, so that
 * a program continues and can report it; one that is newer than the list fails with ENOSYS, as on an older kernel, and so does clone3, whose
 * flags are in memory, where a filter can't read them: C libraries fall back to clone. Of sockets, only kinds are allowed that network
 * namespaces confine (vsock reaches the host of a virtual machine).
 *
 * The wall is made of namespaces, missing capabilities and the read-only system; the filter reduces the kernel's attack surface.
 */
interface Machine {
  /** AUDIT_ARCH_*. */
  readonly arch: number;
  readonly allowed: ReadonlySet<number>;
  readonly clone: number;
  readonly socket: number;
  readonly ioctl: number;
  readonly personality: number;
}

const machines: Readonly<Record<string, Machine>> = {
  x64: { arch: 0xc000003e, allowed: allowedCalls.x64, clone: 56, socket: 41, ioctl: 16, personality: 135 },
  arm64: { arch: 0xc00000b7, allowed: allowedCalls.arm64, clone: 220, socket: 198, ioctl: 29, personality: 92 },
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
/** Asking for the personality, and those that Docker allows: PER_LINUX, PER_LINUX32, UNAME26, and both. */
const personalities = [0xffffffff, 0, 8, 0x20000, 0x20008];

const [ld, jeq, jgt, jge, jset, ret] = [0x20, 0x15, 0x25, 0x35, 0x45, 0x06];
const offset = { number: 0, arch: 4, argument: (n: number) => 16 + 8 * n };

/** Builds the filter for bubblewrap, or `undefined` for a machine whose call numbers are not known here. */
export function seccompFilter(machine: string = process.arch): Buffer | undefined {
  const known = machines[machine];
  if (!known) return undefined;
  const program: { code: number; k: number; jt: number; jf: number }[] = [];
  const add = (code: number, k: number, jt = 0, jf = 0): void => void program.push({ code, k, jt, jf });
  /** Decides the call `number` by whether its argument is one of the values. */
  const byArgument = (number: number, argument: number, values: readonly number[], listed: number, others: number): void => {
    add(jeq, number, 0, values.length + 3);
    add(ld, offset.argument(argument));
    for (const [i, value] of values.entries()) add(jeq, value, values.length - i, 0);
    add(ret, others);
    add(ret, listed);
  };
  add(ld, offset.arch);
  add(jeq, known.arch, 1, 0);
  add(ret, kill);
  add(ld, offset.number);
  // The x32 calls of x86-64 have other numbers for the same calls.
  add(jge, 0x40000000, 0, 1);
  add(ret, refuse(eperm));
  add(jeq, clone3, 0, 1);
  add(ret, refuse(enosys));
  add(jeq, known.clone, 0, 4);
  add(ld, offset.argument(0));
  add(jset, newNamespaces, 0, 1);
  add(ret, refuse(eperm));
  add(ret, allow);
  byArgument(known.socket, 0, families, allow, refuse(eperm));
  byArgument(known.ioctl, 1, ioctls, refuse(eperm), allow);
  byArgument(known.personality, 0, personalities, allow, refuse(eperm));
  for (const [first, last] of rangesOf(known.allowed)) {
    add(jge, first, 0, 2);
    add(jgt, last, 1, 0);
    add(ret, allow);
  }
  add(jgt, newestCall, 0, 1);
  add(ret, refuse(enosys));
  add(ret, refuse(eperm));
  const filter = Buffer.alloc(program.length * 8);
  for (const [i, { code, jt, jf, k }] of program.entries()) {
    filter.writeUInt16LE(code, i * 8);
    filter.writeUInt8(jt, i * 8 + 2);
    filter.writeUInt8(jf, i * 8 + 3);
    filter.writeUInt32LE(k >>> 0, i * 8 + 4);
  }
  return filter;
}

/** First and last of the numbers that follow each other. */
function rangesOf(numbers: ReadonlySet<number>): readonly (readonly [number, number])[] {
  const ranges: [number, number][] = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last?.[1] === number - 1) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges;
}
