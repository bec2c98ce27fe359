import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HoldfastError, type Logger, timeoutSignal } from '@holdfast/core';
import { idOf } from './exact-json.ts';
import { callbackBody, codes, type JobEnd, type ProtocolVersion } from './protocol.ts';

export interface AdminClientOptions {
  /** Base addresses, such as `http://xxl.example/xxl-job-admin`. The executor registers with each; a job's end is reported to one. */
  readonly admins: readonly string[];
  readonly appName: string;
  readonly accessToken: string | undefined;
  /** The address at which admins call this executor. */
  readonly address: () => string;
  readonly version: () => ProtocolVersion;
  /** The folder of job ends that no admin has accepted yet. */
  readonly folder: string;
  readonly logger: Logger;
}

const timeoutMs = 5_000;

/** An admin refused a request or could not be reached. */
class AdminError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'xxl-job-admin', retryable: true, cause });
  }
}

/** Sends the executor's requests to its admins. */
export class AdminClient {
  readonly #options: AdminClientOptions;

  constructor(options: AdminClientOptions) {
    this.#options = options;
  }

  /** Registers this executor with every admin. Returns how many accepted it. */
  async register(signal: AbortSignal): Promise<number> {
    return this.#toAll('registry', signal);
  }

  /** Removes this executor from every admin. Returns how many accepted it. */
  async unregister(): Promise<number> {
    return this.#toAll('registryRemove');
  }

  /** Stores a job's end until an admin has accepted it. */
  async store(end: JobEnd): Promise<void> {
    const { folder } = this.#options;
    await mkdir(folder, { recursive: true });
    // The rename keeps a half-written file from being read if the process dies.
    await writeFile(join(folder, `${end.logId}.tmp`), JSON.stringify(end));
    await rename(join(folder, `${end.logId}.tmp`), join(folder, `${end.logId}.json`));
  }

  /** Reports stored ends, at most 100, to the first admin that accepts them. Returns how many it accepted. */
  async deliver(): Promise<number> {
    const { folder, admins, version } = this.#options;
    const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.json')).slice(0, 100);
    const ends = (await Promise.all(names.map((name) => this.#read(name)))).filter((end) => end !== undefined);
    if (ends.length === 0) return 0;
    let failure: unknown;
    for (const admin of admins) {
      try {
        await this.#post(admin, 'callback', callbackBody(version(), ends));
        for (const name of names) await rm(join(folder, name), { force: true });
        return ends.length;
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  /** Reads a stored end. A broken file, as a loss of power leaves it, is renamed so that it does not block the others. */
  async #read(name: string): Promise<JobEnd | undefined> {
    const { folder, logger } = this.#options;
    try {
      const end = JSON.parse(await readFile(join(folder, name), 'utf8')) as JobEnd;
      // Earlier versions stored a number.
      return { ...end, logId: idOf(end, 'logId') };
    } catch (err) {
      logger.error({ err, file: join(folder, name) }, 'a stored job end can not be read; it will not be reported to the admin');
      await rename(join(folder, name), join(folder, `${name}.broken`));
      return undefined;
    }
  }

  async #toAll(path: string, signal?: AbortSignal): Promise<number> {
    const { admins, appName, address, logger } = this.#options;
    const body = { registryGroup: 'EXECUTOR', registryKey: appName, registryValue: address() };
    const results = await Promise.allSettled(admins.map((admin) => this.#post(admin, path, body, signal)));
    if (signal?.aborted) return 0;
    for (const [i, result] of results.entries())
      if (result.status === 'rejected')
        logger.warn({ err: result.reason, admin: admins[i] }, `an xxl-job admin did not accept ${path}; trying again`);
    return results.filter(({ status }) => status === 'fulfilled').length;
  }

  async #post(admin: string, path: string, body: unknown, signal?: AbortSignal): Promise<void> {
    const { accessToken, appName } = this.#options;
    const url = `${admin.replace(/\/+$/, '')}/api/${path}`;
    let answer: { code?: number; msg?: string };
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json;charset=UTF-8',
          // Required from 3.5 on; older admins ignore it.
          'XXL-JOB-APPNAME': appName,
          ...(accessToken === undefined ? {} : { 'XXL-JOB-ACCESS-TOKEN': accessToken }),
        },
        body: JSON.stringify(body),
        signal: signal ? AbortSignal.any([signal, timeoutSignal(timeoutMs)]) : timeoutSignal(timeoutMs),
      });
      answer = (await response.json()) as typeof answer;
    } catch (cause) {
      throw new AdminError(`${url} did not answer: ${(cause as Error).message}. Check the address and that the admin runs.`, cause);
    }
    if (answer.code !== codes.ok)
      throw new AdminError(
        `${url} answered ${answer.code}: ${answer.msg ?? 'no reason'}. Check the access token and the executor's AppName in the admin.`,
      );
  }
}
