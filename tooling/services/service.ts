/** A real server that tests and benchmarks use. */
export interface Service {
  readonly name: string;
  /** Environment variable in which tests find the address. Servers of several versions share one. */
  readonly variable: string;
  /** Environment variable for an address from outside. If it is set, no server is started. Default: `variable`. */
  readonly addressVariable?: string;
  /** Debian packages of this machine's own suite that bring the programs. */
  readonly packages: readonly string[];
  /** Files that must exist for the programs to count as installed. */
  readonly binaries: readonly string[];
  /** Installs `binaries` that no package of this machine's suite contains. Does nothing where that is not possible. */
  install?(log: (line: string) => void): Promise<void>;
  /** Instruction for a person who lacks the programs. Default: install the packages. */
  readonly missing?: string;
  /** The signal that shuts it down normally. */
  readonly stopSignal: NodeJS.Signals;
  /** The port inside the compose file's container and the address for it. */
  url(port: number): string;
  /**
   * Prepares the data folder, recovering from a half-finished earlier try, and starts the server. `name` is that of its
   * folder under `.services/` and of its record; another than the service's own makes a second server. `more` are arguments to the
   * program.
   */
  start(port: number, name: string, more?: readonly string[]): Promise<void>;
  /** One real round trip: write something, read it back. Resolves with the server's version. */
  roundTrip(url: string): Promise<string | undefined>;
}
