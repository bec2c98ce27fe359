import { existsSync } from 'node:fs';
import { canInstall, installPackages } from './debian.ts';

/** What the code runner's sandbox and its languages are made of: programs, not servers. */
const programs = [
  { name: 'bubblewrap', binary: '/usr/bin/bwrap', package: 'bubblewrap' },
  { name: 'python', binary: '/usr/bin/python3', package: 'python3' },
  { name: 'r', binary: '/usr/bin/Rscript', package: 'r-base-core' },
  { name: 'scala', binary: '/usr/bin/scalac', package: 'scala' },
  { name: 'java', binary: '/usr/bin/java', package: 'default-jre-headless' },
] as const;

/** Installs what is missing, where that can be done. Returns the names of those that are missing afterwards. */
export function ensurePrograms(wanted: (name: string) => boolean, log: (line: string) => void): readonly string[] {
  const list = programs.filter(({ name }) => wanted(name));
  const absent = list.filter(({ binary }) => !existsSync(binary));
  if (absent.length > 0 && canInstall()) {
    try {
      installPackages(
        absent.map((program) => program.package),
        log,
      );
    } catch (error) {
      log((error as Error).message);
    }
  }
  const missing = list.filter(({ binary }) => !existsSync(binary));
  for (const { name, binary, package: from } of missing)
    log(`${name.padEnd(9)} missing (no ${binary}; install ${from}, or run as root on Debian to have it installed)`);
  return missing.map(({ name }) => name);
}
