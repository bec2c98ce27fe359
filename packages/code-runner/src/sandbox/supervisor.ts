/** Where the supervisor says what it knows, and where it is told to go on. */
export const supervisorFds = { says: 6, hears: 7 } as const;

export interface SupervisorLimits {
  /** Bytes of one file. */
  readonly fileBytes: number;
  /** Processes, and address space of each, where no cgroup counts them. */
  readonly uncounted: { readonly processes: number; readonly addressBytes: number } | undefined;
}

/**
 * A shell script around the program. It stays while the program runs, says how each step ended, and is still there afterwards, so that
 * what the program left can be read; then it ends each stream with a word that the program can't have known.
 *
 * The program has the same user and could disturb it, to no end but its own: how the run is seen to end then is that it was killed.
 */
export function supervisor(limits: SupervisorLimits, compile: string | undefined, command: readonly string[]): readonly string[] {
  return ['/bin/sh', '-c', supervisorScript(limits, compile), 'run', ...command];
}

function supervisorScript(limits: SupervisorLimits, compile: string | undefined): string {
  const { says, hears } = supervisorFds;
  const theirs = `2>&8 ${[3, 4, 5, says, hears, 8].map((fd) => `${fd}>&-`).join(' ')}`;
  const blocks = Math.ceil(limits.fileBytes / 512);
  return [
    `ulimit -c 0; ulimit -n 4096; ulimit -f ${blocks}`,
    ...(limits.uncounted === undefined
      ? []
      : [
          `ulimit -v ${Math.ceil(limits.uncounted.addressBytes / 1_024)}`,
          `ulimit -p ${limits.uncounted.processes} 2>/dev/null || ulimit -u ${limits.uncounted.processes} 2>/dev/null`,
        ]),
    // What this shell says itself, such as that a program was terminated, must not be among what the program says.
    'exec 8>&2 2>/dev/null',
    // Not ignored: that would be inherited.
    'trap : TERM INT HUP',
    'code=0; stage=run',
    ...(compile === undefined ? [] : [`stage=compile; ( exec ${theirs}; ${compile} ); code=$?`]),
    `if [ $code -eq 0 ]; then stage=run; ( exec "$@" ${theirs} ); code=$?; fi`,
    `echo "$stage $code" >&${says}`,
    `read -r word <&${hears}; printf %s "$word"; printf %s "$word" >&8; echo drained >&${says}`,
    `read -r word <&${hears}`,
    'exit 0',
  ].join('\n');
}
