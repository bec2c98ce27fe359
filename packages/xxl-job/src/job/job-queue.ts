import { HoldfastError, storedError } from '@holdfast/core';
import { codes, type JobEnd, type TriggerRequest } from '../admin/protocol.ts';

/** What a handler is given besides its parameter. */
export interface JobContext {
  /** Says a line that the admin shows. */
  log(text: string): void;
  /** Aborts when the job is killed, has run for too long, or is covered by a newer one. */
  readonly signal: AbortSignal;
  readonly jobId: number;
  readonly logId: number;
  /** For a sharding broadcast: the number of this instance, and how many there are. */
  readonly shard: readonly [index: number, total: number];
}

/** A job. What it returns, if text, is shown as its result; what it throws is why it failed. */
export type JobHandler = (param: string, context: JobContext) => unknown;

interface Job {
  readonly request: TriggerRequest;
  readonly handler: JobHandler;
  readonly abort: AbortController;
}

/** A job was ended from outside. */
class JobEndedError extends HoldfastError {
  readonly end: number;

  constructor(message: string, end: number) {
    super(message, { code: 'job-ended' });
    this.end = end;
  }
}

export interface JobQueueOptions {
  readonly log: (logId: number, text: string) => void;
  readonly ended: (end: JobEnd) => void;
  /** How long a job that was ended is waited for before it is given up as lost, in ms. */
  readonly graceMs: number;
}

/** The triggers of one job: one runs, the others wait, or do not, as its strategy says. */
export class JobQueue {
  readonly #options: JobQueueOptions;
  readonly #waiting: Job[] = [];
  #running: Job | undefined;
  #ended: Promise<void> = Promise.resolve();

  constructor(options: JobQueueOptions) {
    this.#options = options;
  }

  get busy(): boolean {
    return this.#running !== undefined || this.#waiting.length > 0;
  }

  has(logId: number): boolean {
    return this.#running?.request.logId === logId || this.#waiting.some(({ request }) => request.logId === logId);
  }

  /** Takes a trigger; the sentence that says why not otherwise. */
  add(request: TriggerRequest, handler: JobHandler): string | undefined {
    if (this.has(request.logId)) return `The log ${request.logId} is under way already.`;
    if (this.busy && request.executorBlockStrategy === 'DISCARD_LATER')
      return 'The job is under way, and its block strategy is Discard Later.';
    if (this.busy && request.executorBlockStrategy === 'COVER_EARLY')
      this.kill('A newer trigger covers this one: block strategy Cover Early.');
    this.#waiting.push({ request, handler, abort: new AbortController() });
    this.#next();
    return undefined;
  }

  /** Ends what runs and what waits. */
  kill(reason: string, code: number = codes.failed): void {
    for (const { request } of this.#waiting.splice(0)) this.#end(request, code, reason);
    this.#running?.abort.abort(new JobEndedError(reason, code));
  }

  /** Resolves when nothing runs. */
  async quiet(): Promise<void> {
    while (this.#running) await this.#ended;
  }

  #next(): void {
    if (this.#running) return;
    const job = this.#waiting.shift();
    if (!job) return;
    this.#running = job;
    this.#ended = this.#run(job).finally(() => {
      this.#running = undefined;
      this.#next();
    });
  }

  async #run({ request, handler, abort }: Job): Promise<void> {
    const { log, graceMs } = this.#options;
    const { logId, executorTimeout, executorParams, jobId, broadcastIndex, broadcastTotal } = request;
    const timer =
      executorTimeout > 0
        ? setTimeout(
            () => abort.abort(new JobEndedError(`The job ran for longer than its ${executorTimeout} s.`, codes.timedOut)),
            executorTimeout * 1_000,
          )
        : undefined;
    log(
      logId,
      `----------- ${request.executorHandler} begins, parameter ${JSON.stringify(executorParams)}, shard ${broadcastIndex}/${broadcastTotal} -----------`,
    );
    let code: number = codes.ok;
    let msg = '';
    const ended = new Promise<never>((_, reject) => {
      // A handler that does not listen is not waited for for ever.
      abort.signal.addEventListener('abort', () => setTimeout(() => reject(abort.signal.reason), graceMs).unref(), { once: true });
    });
    try {
      const context: JobContext = {
        log: (text) => log(logId, text),
        signal: abort.signal,
        jobId,
        logId,
        shard: [broadcastIndex, broadcastTotal],
      };
      const result = await Promise.race([Promise.resolve().then(() => handler(executorParams, context)), ended]);
      abort.signal.throwIfAborted();
      msg = typeof result === 'string' ? result : '';
    } catch (error) {
      const reason = abort.signal.aborted ? abort.signal.reason : error;
      code = reason instanceof JobEndedError ? reason.end : codes.failed;
      msg = storedError(reason).message;
      log(
        logId,
        `${reason instanceof JobEndedError ? 'ended' : 'failed'}: ${reason instanceof Error && !(reason instanceof JobEndedError) ? (reason.stack ?? msg) : msg}`,
      );
    } finally {
      clearTimeout(timer);
    }
    log(logId, `----------- ${request.executorHandler} ended with ${code} -----------`);
    this.#end(request, code, msg);
  }

  #end({ logId, logDateTime }: TriggerRequest, code: number, msg: string): void {
    this.#options.ended({ logId, logDateTime, code, msg: msg.slice(0, 2_000) });
  }
}
