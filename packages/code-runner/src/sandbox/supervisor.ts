/** File descriptors on which the supervisor reports, and on which it gets commands. */
export const supervisorFds = { reports: 6, commands: 7 } as const;

export interface SupervisorLimits {
  /** Bytes of one file. */
  readonly fileBytes: number;
  /** Limits per process, where no cgroup counts processes and memory. */
  readonly uncounted: { readonly processes: number; readonly addressBytes: number } | undefined;
}

/** Starts a program in the background, where a shell lets it ignore SIGINT and SIGQUIT, with these as they were. */
const startJob = 'env --default-signal=INT --default-signal=QUIT';

/** A shell script that prints a line about its job `Interrupt` if this machine's programs allow {@link SupervisorOptions.jobs}. */
export const tryJobs: string = `${startJob} sh -c 'kill -INT $$' & wait $!; jobs`;

/** Tells from what {@link tryJobs} printed whether a shell says of its jobs how they ended. */
export function tellsJobs(printed: string): boolean {
  return /^\[1\].*Interrupt/m.test(printed);
}

export interface SupervisorOptions {
  /** Path below `/code` of the file that is the program's standard input. */
  readonly stdinFile: string | undefined;
  /**
   * True if the program is a job of the shell, which then says whether a signal ended it, or the program exited with a code that looks so. Otherwise the
   * shell says it of most signals only.
   */
  readonly jobs: boolean;
}

/**
 * A shell script around the program. It starts the program at the command `go`, reports how each step ended, and stays after the program
 * has ended, so that the files in `/out` can be read. Then it ends each stream with a mark that the program can't know.
 *
 * The program runs as the same user and could kill the supervisor. It gains nothing: the run then counts as killed.
 */
export function supervisor(
  limits: SupervisorLimits,
  compile: string | undefined,
  command: readonly string[],
  options: SupervisorOptions,
): readonly string[] {
  return ['/bin/sh', '-c', supervisorScript(limits, compile, options), 'run', ...command];
}

function supervisorScript(limits: SupervisorLimits, compile: string | undefined, { stdinFile, jobs }: SupervisorOptions): string {
  const { reports, commands } = supervisorFds;
  const theirs = `2>&8 ${[3, 4, 5, reports, commands, 8].map((fd) => `${fd}>&-`).join(' ')}`;
  const input = stdinFile === undefined ? '' : `</code/${stdinFile} `;
  const blocks = Math.ceil(limits.fileBytes / 512);
  return [
    // bwrap also continues when its block pipe ends because this service has died. The program must not run then: it has no limits.
    `read -r word <&${commands} && [ "$word" = go ] || exit 1`,
    `ulimit -c 0; ulimit -n 4096; ulimit -f ${blocks}`,
    ...(limits.uncounted === undefined
      ? []
      : [
          `ulimit -v ${Math.ceil(limits.uncounted.addressBytes / 1_024)}`,
          `ulimit -p ${limits.uncounted.processes} 2>/dev/null || ulimit -u ${limits.uncounted.processes} 2>/dev/null`,
        ]),
    // Messages of this shell must not appear in the program's output. That a program was killed is one: without it, an exit code above 128
    // is the program's own.
    `exec 8>&2 2>&${reports}`,
    // A handler, since ignored signals would stay ignored in the program.
    'trap : TERM INT HUP',
    'code=0; stage=run',
    ...(compile === undefined ? [] : [`stage=compile; ( exec ${theirs}; ${compile} ); code=$?`]),
    'found=',
    'case $1 in',
    '*/*) [ -x "$1" ] && [ ! -d "$1" ] && found=1;;',
    '*) IFS=:; for folder in $PATH; do [ -x "$folder/$1" ] && [ ! -d "$folder/$1" ] && found=1; done; unset IFS;;',
    'esac',
    'if [ $code -eq 0 ]; then stage=run',
    'if [ -z "$found" ]; then echo missing >&2; printf \'There is no program %s that can be started.\\n\' "$1" >&8; code=127',
    ...(jobs
      ? [
          // env would take a name with = for a variable.
          `elif [ "$1" = "\${1%%=*}" ]; then ( exec ${startJob} "$@" ${input}${theirs} ) & pid=$!`,
          // A signal interrupts the wait.
          'wait $pid; code=$?; while kill -0 $pid 2>/dev/null; do wait $pid; code=$?; done',
          `jobs >&${reports}`,
        ]
      : []),
    `else ( exec "$@" ${input}${theirs} ); code=$?; fi; fi`,
    // Processor time of this shell, and of the processes that have ended before.
    `times >&${reports}; echo "$stage $code" >&${reports}`,
    `read -r word <&${commands}; printf %s "$word"; printf %s "$word" >&8; echo drained >&${reports}`,
    `read -r word <&${commands}`,
    'exit 0',
  ].join('\n');
}
