import type { Logger } from './logger.ts';

/**
 * Logs an outage of something that is tried again and again, so that each outage is seen and none fills the log: the first failure at `warn`, the
 * further ones at `debug`, and the end at `info`.
 */
export class OutageLog {
  readonly #logger: Logger;
  readonly #fields: object;
  #failed = false;

  /** @param fields fields of each line, such as an address without its password */
  constructor(logger: Logger, fields: object = {}) {
    this.#logger = logger;
    this.#fields = fields;
  }

  /** It has failed, and is tried again. `message` says so, and what works meanwhile. */
  failed(err: unknown, message: string): void {
    this.#logger[this.#failed ? 'debug' : 'warn']({ ...this.#fields, err }, message);
    this.#failed = true;
  }

  /** It works. Logs `message` if it had failed. */
  works(message: string): void {
    if (this.#failed) this.#logger.info(this.#fields, message);
    this.#failed = false;
  }
}
