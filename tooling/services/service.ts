/** A server that tests and benchmarks use for real. */
export interface Service {
  readonly name: string;
  /** Environment variable in which tests find the address. Servers of several versions share one. */
  readonly variable: string;
  /** Environment variable in which an address may be given from outside, which wins. Default: `variable`. */
  readonly givenBy?: string;
  /** Debian packages of this machine's own suite that bring the programs. */
  readonly packages: readonly string[];
  /** Files that must exist for the programs to count as installed. */
  readonly binaries: readonly string[];
  /** Brings `binaries` where no package of this machine's suite does. Nothing happens where that is not possible. */
  install?(log: (line: string) => void): Promise<void>;
  /** What somebody without the programs would have to do. Default: have the packages installed. */
  readonly missing?: string;
  /** Signal that ends it in good order. */
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
