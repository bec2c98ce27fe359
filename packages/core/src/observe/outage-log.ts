import type { Logger } from './logger.ts';

/** The level of the highest line of an outage. */
type Told = 'nothing' | 'warn' | 'error';

/**
 * Logs an outage of something that is tried again and again, so that each outage is seen and none fills the log: the first failure at `warn`, the
 * first refusal that a person must act on at `error`, the further ones at `debug`, and the end at `info`.
 */
export class OutageLog {
  readonly #logger: Logger;
  readonly #fields: object;
  #told: Told = 'nothing';

  /** @param fields fields of each line, such as an address without its password */
  constructor(logger: Logger, fields: object = {}) {
    this.#logger = logger;
    this.#fields = fields;
  }

  /** It has failed, and is tried again. `message` says so, and what works meanwhile. */
  failed(err: unknown, message: string): void {
    this.#log(this.#told === 'nothing' ? 'warn' : undefined, err, message);
  }

  /** It is refused until a person acts, and is tried again. An outage that began with a failure is told a second time. */
  refused(err: unknown, message: string): void {
    this.#log(this.#told === 'error' ? undefined : 'error', err, message);
  }

  /** It works. Logs `message` if it had failed. */
  works(message: string): void {
    if (this.#told !== 'nothing') this.#logger.info(this.#fields, message);
    this.#told = 'nothing';
  }

  #log(level: 'warn' | 'error' | undefined, err: unknown, message: string): void {
    this.#logger[level ?? 'debug']({ ...this.#fields, err }, message);
    this.#told = level ?? this.#told;
  }
}
