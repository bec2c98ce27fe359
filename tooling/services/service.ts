/** A server that tests and benchmarks use for real. */
export interface Service {
  readonly name: string;
  /** Environment variable with the address; given from outside, it wins. */
  readonly variable: string;
  /** Environment variable in which tests find the address. Default: `variable`. Servers of several versions share one. */
  readonly passedAs?: string;
  /** Debian packages that bring it. */
  readonly packages: readonly string[];
  /** Files of which one must exist for the packages to count as installed. */
  readonly binaries: readonly string[];
  /** Brings `binaries` where no package of Debian's does. Nothing happens where it can't be done. */
  install?(log: (line: string) => void): void;
  /** What somebody without them would have to do. Default: have the packages installed. */
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
  /** One real round trip: write something, read it back. */
  roundTrip(url: string): Promise<void>;
}
