/** A call that no kernel has, of a number below the newest of the list: the kernel would say ENOSYS, the filter says EPERM. */
const never = 400;
/** open_tree_attr of Linux 6.15: newer than the list, so that the filter says ENOSYS, whatever the kernel would say. */
const newer = 467;
/** getpid, by machine. */
const listed: Readonly<Record<string, number>> = { x64: 39, arm64: 172 };

/** Programs for the probe by name, each of which makes one system call. */
export function callPrograms(machine: string = process.arch): Readonly<Record<string, Buffer>> {
  const getpid = listed[machine];
  if (getpid === undefined) return {};
  const programs = { never: oneCall(never, machine), newer: oneCall(newer, machine), listed: oneCall(getpid, machine) };
  return Object.fromEntries(Object.entries(programs).flatMap(([name, program]) => (program ? [[name, program]] : [])));
}

/**
 * A shell script that runs the programs from `/code`, and prints `call NAME CODE` for each. They are copied first: the file system of `/code` may
 * forbid executing.
 */
export const runCalls =
  'for name in never newer listed; do [ -e /code/$name ] || continue; cat /code/$name > /scratch/$name; chmod 755 /scratch/$name; /scratch/$name; echo "call $name $?"; done';

/**
 * Tells from what {@link runCalls} printed whether the filter allows what is on its list, and only that. `undefined` if the programs could not be
 * started, so that nothing is known.
 */
export function onlyListedCalls(text: string): boolean | undefined {
  const codes = new Map([...text.matchAll(/^call (\w+) (\d+)$/gm)].map(([, name, code]) => [name, Number(code)]));
  const started = [...codes.values()].filter((code) => code !== 126 && code !== 127);
  if (started.length === 0) return undefined;
  return codes.get('never') === 1 && codes.get('newer') === 38 && ![1, 38].includes(codes.get('listed') ?? 1);
}

/**
 * A program (ELF) that makes one system call, with -1 for the first four arguments, and exits with the error's number. Shells can't make any call, and
 * no interpreter that can is sure to be there.
 */
function oneCall(number: number, machine: string): Buffer | undefined {
  const code = machine === 'x64' ? x64(number) : machine === 'arm64' ? arm64(number) : undefined;
  if (!code) return undefined;
  const headers = 64 + 56;
  const base = 0x400000n;
  const size = BigInt(headers + code.length);
  const elf = Buffer.alloc(headers);
  // Identification: 64 bits, little-endian, version 1. Then: executable, machine, version 1.
  elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  elf.writeUInt16LE(2, 16);
  elf.writeUInt16LE(machine === 'x64' ? 62 : 183, 18);
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(base + BigInt(headers), 24);
  // The program header follows this one; sizes of both; one program header.
  elf.writeBigUInt64LE(64n, 32);
  elf.writeUInt16LE(64, 52);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  // Load the whole file, readable and executable.
  elf.writeUInt32LE(1, 64);
  elf.writeUInt32LE(5, 68);
  elf.writeBigUInt64LE(base, 80);
  elf.writeBigUInt64LE(base, 88);
  elf.writeBigUInt64LE(size, 96);
  elf.writeBigUInt64LE(size, 104);
  elf.writeBigUInt64LE(0x10000n, 112);
  return Buffer.concat([elf, code]);
}

function x64(number: number): Buffer {
  const [low, high] = [number & 0xff, number >> 8];
  return Buffer.from([
    ...[0xb8, low, high, 0, 0], // mov eax, number
    ...[0x48, 0x83, 0xcf, 0xff], // or rdi, -1
    ...[0x48, 0x83, 0xce, 0xff], // or rsi, -1
    ...[0x48, 0x83, 0xca, 0xff], // or rdx, -1
    ...[0x49, 0x83, 0xca, 0xff], // or r10, -1
    ...[0x0f, 0x05], // syscall
    ...[0xf7, 0xd8], // neg eax
    ...[0x89, 0xc7], // mov edi, eax
    ...[0xb8, 60, 0, 0, 0], // mov eax, exit
    ...[0x0f, 0x05], // syscall
  ]);
}

function arm64(number: number): Buffer {
  const words = [
    0xd2800008 | (number << 5), // mov x8, number
    ...[0x92800000, 0x92800001, 0x92800002, 0x92800003], // mov x0 to x3, -1
    0xd4000001, // svc 0
    0x4b0003e0, // neg w0, w0
    0xd2800008 | (93 << 5), // mov x8, exit
    0xd4000001, // svc 0
  ];
  const code = Buffer.alloc(words.length * 4);
  for (const [i, word] of words.entries()) code.writeUInt32LE(word >>> 0, i * 4);
  return code;
}
