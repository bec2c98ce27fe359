import { HoldfastError, type Logger, timeoutSignal } from '@holdfast/core';
import { callbackBody, codes, type JobEnd, type ProtocolVersion } from './protocol.ts';

export interface AdminClientOptions {
  /** Base addresses, such as `http://xxl.example/xxl-job-admin`. The executor registers with each; a job's end is reported to one. */
  readonly admins: readonly string[];
  readonly appName: string;
  readonly accessToken: string | undefined;
  /** The address at which admins call this executor. */
  readonly address: () => string;
  /** The admins' version; `undefined` until it is known. */
  readonly version: ProtocolVersion | undefined;
  readonly logger: Logger;
}

const timeoutMs = 5_000;
/** An admin forgets an executor by itself, after 90 s without a registration. */
const removalTimeoutMs = 2_000;
/** Answers of proxies, and of servers that are overloaded, that say nothing about the request. */
const unavailable = new Set([408, 429, 502, 503, 504]);

/** An admin refused a request or could not be reached. */
export class AdminError extends HoldfastError {
  /** The admin has read the request, and refused it. */
  readonly refused: boolean;

  constructor(message: string, refused: boolean, cause?: unknown) {
    super(message, { code: 'xxl-job-admin', retryable: true, cause });
    this.refused = refused;
  }
}

/** Sends the executor's requests to its admins. */
export class AdminClient {
  readonly #options: AdminClientOptions;
  /** Admins that have registered this executor, or may have. */
  readonly #registered = new Set<string>();
  #version: ProtocolVersion | undefined;

  constructor(options: AdminClientOptions) {
    this.#options = options;
    this.#version = options.version;
  }

  /** Notes the version that a request of an admin shows. */
  learn(version: ProtocolVersion): void {
    this.#version = this.#options.version ?? version;
  }

  /** Registers this executor with every admin. Returns how many accepted it. */
  async register(signal: AbortSignal): Promise<number> {
    const results = await Promise.allSettled(this.#options.admins.map((admin) => this.#registry(admin, 'registry', timeoutMs, signal)));
    return results.filter(({ status }) => status === 'fulfilled').length;
  }

  /** Removes this executor from the admins that registered it. */
  async unregister(): Promise<void> {
    await Promise.allSettled([...this.#registered].map((admin) => this.#registry(admin, 'registryRemove', removalTimeoutMs)));
    this.#registered.clear();
  }

  /**
   * Reports ends to the first admin that accepts them. While the admins' version is not known, ends that are refused in one form are sent in the
   * other: after a restart, an admin of 3.5 is told of ends before it has triggered a job.
   * @throws AdminError
   */
  async callback(ends: readonly JobEnd[]): Promise<void> {
    const versions: readonly ProtocolVersion[] = this.#version === undefined ? ['2.3', '3.5'] : [this.#version];
    let failure: unknown;
    for (const admin of this.#options.admins)
      for (const version of versions) {
        try {
          await this.#post(admin, 'callback', callbackBody(version, ends), timeoutSignal(timeoutMs));
          this.#version = version;
          return;
        } catch (error) {
          // A refusal says more than an admin that is down.
          if (!(failure instanceof AdminError && failure.refused)) failure = error;
          if (!(error instanceof AdminError && error.refused)) break;
        }
      }
    throw failure;
  }

  async #registry(admin: string, path: 'registry' | 'registryRemove', ms: number, signal?: AbortSignal): Promise<void> {
    const { appName, address, logger } = this.#options;
    const body = { registryGroup: 'EXECUTOR', registryKey: appName, registryValue: address() };
    const late = timeoutSignal(ms);
    if (path === 'registry') this.#registered.add(admin);
    try {
      await this.#post(admin, path, body, signal ? AbortSignal.any([signal, late]) : late);
    } catch (err) {
      // Aborted, it may have got there.
      if (signal?.aborted) throw err;
      if (path === 'registry') this.#registered.delete(admin);
      logger.warn({ err, admin }, `an xxl-job admin did not accept ${path}${path === 'registry' ? '; trying again' : ''}`);
      throw err;
    }
  }

  async #post(admin: string, path: string, body: unknown, signal: AbortSignal): Promise<void> {
    const { accessToken, appName } = this.#options;
    const url = `${admin.replace(/\/+$/, '')}/api/${path}`;
    let response: Response;
    let answer: { code?: unknown; msg?: unknown } | undefined;
    try {
      response = await fetch(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json;charset=UTF-8',
          // Required from 3.5 on; older admins ignore it.
          'XXL-JOB-APPNAME': appName,
          ...(accessToken === undefined ? {} : { 'XXL-JOB-ACCESS-TOKEN': accessToken }),
        },
        body: JSON.stringify(body),
        signal,
      });
      answer = await response.json().catch((error: unknown) => {
        signal.throwIfAborted();
        if (error instanceof SyntaxError) return undefined;
        throw error;
      });
    } catch (cause) {
      throw new AdminError(`${url} did not answer: ${(cause as Error).message}. Check the address and that the admin runs.`, false, cause);
    }
    if (answer?.code === codes.ok && response.ok) return;
    const reason = String(answer?.msg ?? 'no reason')
      .slice(0, 500)
      .replace(/[\s.。]+$/, '');
    throw new AdminError(
      `${url} answered ${answer?.code ?? `with HTTP ${response.status}`}: ${reason}. Check the access token and the executor's AppName in the admin; an admin of 3.5 refuses a new AppName for up to a minute.`,
      !unavailable.has(response.status),
    );
  }
}
