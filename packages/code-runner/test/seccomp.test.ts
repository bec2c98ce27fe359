import { describe, expect, it } from 'vitest';
import { allowedCalls, newestCall } from '../src/sandbox/allowed-calls.ts';
import { seccompFilter } from '../src/sandbox/seccomp.ts';

const answers = { allow: 0x7fff0000, eperm: 0x50001, enosys: 0x50026, kill: 0x80000000 };

/** Evaluates the filter as the kernel does, for one call. */
function answer(filter: Buffer, arch: number, number: number, args: readonly number[] = []): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number, 0);
  data.writeUInt32LE(arch, 4);
  for (const [i, value] of args.entries()) data.writeUInt32LE(value, 16 + 8 * i);
  let loaded = 0;
  for (let at = 0; at * 8 < filter.length; at++) {
    const [code, jt, jf, k] = [
      filter.readUInt16LE(at * 8),
      filter[at * 8 + 2] ?? 0,
      filter[at * 8 + 3] ?? 0,
      filter.readUInt32LE(at * 8 + 4),
    ];
    if (code === 0x06) return k;
    if (code === 0x20) loaded = data.readUInt32LE(k);
    else {
      const holds = { 21: loaded === k, 37: loaded > k, 53: loaded >= k, 69: (loaded & k) !== 0 }[code];
      if (holds === undefined) throw new Error(`the filter has the unknown instruction ${code}`);
      at += holds ? jt : jf;
    }
  }
  throw new Error('the filter ended without an answer');
}

describe.each([
  ['x64', 0xc000003e, { clone: 56, socket: 41, ioctl: 16, personality: 135, ptrace: 101, unshare: 272, read: 0 }],
  ['arm64', 0xc00000b7, { clone: 220, socket: 198, ioctl: 29, personality: 92, ptrace: 117, unshare: 97, read: 63 }],
] as const)('the filter for system calls on %s', (machine, arch, call) => {
  const filter = seccompFilter(machine) as Buffer;
  const allowed = allowedCalls[machine];
  const one = (number: number, ...args: number[]): number => answer(filter, arch, number, args);

  it('allows what is on the list, refuses the rest, and does not know what is newer', () => {
    const special: readonly number[] = [call.clone, call.socket, call.ioctl, call.personality, 435];
    for (let number = 0; number <= 1_000; number++) {
      if (special.includes(number)) continue;
      expect([number, one(number)]).toEqual([
        number,
        allowed.has(number) ? answers.allow : number > newestCall ? answers.enosys : answers.eperm,
      ]);
    }
    expect(special.filter((number) => allowed.has(number))).toEqual([]);
    expect([one(call.read), one(call.ptrace), one(call.unshare), one(435)]).toEqual([
      answers.allow,
      answers.eperm,
      answers.eperm,
      answers.enosys,
    ]);
  });

  it('decides by the argument where that matters', () => {
    expect([one(call.clone, 0x11), one(call.clone, 0x10000000)]).toEqual([answers.allow, answers.eperm]);
    expect([1, 2, 10, 16, 17, 38, 40].map((family) => one(call.socket, family) === answers.allow)).toEqual([
      ...[true, true, true, true],
      ...[false, false, false],
    ]);
    expect([one(call.ioctl, 0, 0x5401), one(call.ioctl, 0, 0x5412), one(call.ioctl, 0, 0x541c)]).toEqual([
      answers.allow,
      answers.eperm,
      answers.eperm,
    ]);
    expect([one(call.personality, 0xffffffff), one(call.personality, 0x400000)]).toEqual([answers.allow, answers.eperm]);
  });

  it("kills what calls by another machine's numbers, and refuses those of x32", () => {
    expect(answer(filter, 0x40000003, call.read)).toBe(answers.kill);
    expect(one(0x40000000 + call.read)).toBe(answers.eperm);
  });
});
