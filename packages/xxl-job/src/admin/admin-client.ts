import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HoldfastError, type Logger } from '@holdfast/core';
import { callbackBody, codes, type JobEnd, type ProtocolVersion } from './protocol.ts';

export interface AdminClientOptions {
  /** Base addresses, such as `http://xxl.example/xxl-job-admin`. Each is told of this executor; one is told how a job ended. */
  readonly admins: readonly string[];
  readonly appName: string;
  readonly accessToken: string | undefined;
  /** Where this executor can be called. */
  readonly address: () => string;
  readonly version: () => ProtocolVersion;
  /** Where ends wait until an admin has taken them. */
  readonly folder: string;
  readonly logger: Logger;
}

const timeoutMs = 5_000;

/** An admin refused, or could not be reached. */
class AdminError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'xxl-job-admin', retryable: true, cause });
  }
}

/** What the executor says to its admins. */
export class AdminClient {
  readonly #options: AdminClientOptions;

  constructor(options: AdminClientOptions) {
    this.#options = options;
  }

  /** Says that this executor is there, to every admin. Returns how many took it. */
  async register(): Promise<number> {
    return this.#toAll('registry');
  }

  async unregister(): Promise<number> {
    return this.#toAll('registryRemove');
  }

  /** Keeps how a job ended until an admin has it. */
  async keep(end: JobEnd): Promise<void> {
    const { folder } = this.#options;
    await mkdir(folder, { recursive: true });
    // Whole or not at all, if the process dies while it writes.
    await writeFile(join(folder, `${end.logId}.tmp`), JSON.stringify(end));
    await rename(join(folder, `${end.logId}.tmp`), join(folder, `${end.logId}.json`));
  }

  /** Tells an admin what is kept. Returns how many ends it took. */
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

  /** One that can't be read, as a machine leaves it that loses its power, is put aside and holds up no other. */
  async #read(name: string): Promise<JobEnd | undefined> {
    const { folder, logger } = this.#options;
    try {
      return JSON.parse(await readFile(join(folder, name), 'utf8')) as JobEnd;
    } catch (err) {
      logger.error({ err, file: join(folder, name) }, 'how a job ended can not be read any more; its admin will not hear of it');
      await rename(join(folder, name), join(folder, `${name}.broken`));
      return undefined;
    }
  }

  async #toAll(path: string): Promise<number> {
    const { admins, appName, address, logger } = this.#options;
    const body = { registryGroup: 'EXECUTOR', registryKey: appName, registryValue: address() };
    const results = await Promise.allSettled(admins.map((admin) => this.#post(admin, path, body)));
    for (const [i, result] of results.entries())
      if (result.status === 'rejected')
        logger.warn({ err: result.reason, admin: admins[i] }, `an xxl-job admin did not take ${path}; it is tried again`);
    return results.filter(({ status }) => status === 'fulfilled').length;
  }

  async #post(admin: string, path: string, body: unknown): Promise<void> {
    const { accessToken, appName } = this.#options;
    const url = `${admin.replace(/\/+$/, '')}/api/${path}`;
    let answer: { code?: number; msg?: string };
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json;charset=UTF-8',
          // From 3.5 on; older ones do not look.
          'XXL-JOB-APPNAME': appName,
          ...(accessToken === undefined ? {} : { 'XXL-JOB-ACCESS-TOKEN': accessToken }),
        },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(timeoutMs),
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
