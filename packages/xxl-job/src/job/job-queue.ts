import { HoldfastError, startTimer, storedError, unlessGivenUp } from '@holdfast/core';
import { codes, type JobEnd, type TriggerRequest } from '../admin/protocol.ts';

/** A handler's context: its run, its log, and a signal that ends it. */
export interface JobContext {
  /** Adds a line, or several, to the run's log, which the admin shows. */
  log(text: string): void;
  /** Aborts when the job is killed, exceeds its time-out, or is covered by a newer trigger, and when the executor stops. */
  readonly signal: AbortSignal;
  /** The id of the job, a number of the admin's as text. */
  readonly jobId: string;
  /** The id of this run and its log, a number of 64 bits as text. */
  readonly logId: string;
  /** For a sharding broadcast: the index of this instance, from 0, and the number of instances. Otherwise `[0, 1]`. */
  readonly shard: readonly [index: number, total: number];
}

/** Runs a job. If it returns a string, the admin shows it as the result; if it throws, the run has failed and the admin shows the error. */
export type JobHandler = (param: string, context: JobContext) => unknown;

interface Job {
  readonly request: TriggerRequest;
  readonly handler: JobHandler;
  readonly abort: AbortController;
}

/** The reason why a run was ended from outside: killed, timed out, or covered. */
class JobEndedError extends HoldfastError {
  readonly end: number;
  /** The reason without the address of its page, for the admin's operators. */
  readonly reason: string;

  constructor(reason: string, end: number) {
    super(reason, { code: 'job-ended' });
    this.end = end;
    this.reason = reason;
  }
}

export interface JobQueueOptions {
  readonly log: (logId: string, text: string) => void;
  readonly ended: (end: JobEnd) => void;
  /** The time in ms that a handler may run on after its signal aborted. Then its end is reported, and the next run starts. */
  readonly graceMs: number;
}

/** The runs of one job: one at a time. The block strategy of a trigger decides whether it waits, is refused, or ends the earlier ones. */
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

  has(logId: string): boolean {
    return this.#running?.request.logId === logId || this.#waiting.some(({ request }) => request.logId === logId);
  }

  /** Queues a run. Returns a sentence that says why if the trigger is refused. */
  add(request: TriggerRequest, handler: JobHandler): string | undefined {
    if (this.has(request.logId)) return `The run with log ${request.logId} has not ended yet.`;
    if (this.busy && request.executorBlockStrategy === 'DISCARD_LATER')
      return 'The job runs or waits, and its block strategy is Discard Later.';
    if (this.busy && request.executorBlockStrategy === 'COVER_EARLY')
      this.kill('A newer trigger covers this one: block strategy Cover Early.');
    this.#waiting.push({ request, handler, abort: new AbortController() });
    this.#next();
    return undefined;
  }

  /** Ends the run in progress and all that wait. */
  kill(reason: string, code: number = codes.failed): void {
    this.drop(reason, code);
    this.#running?.abort.abort(new JobEndedError(reason, code));
  }

  /** Ends the runs that wait; the one in progress goes on. */
  drop(reason: string, code: number = codes.failed): void {
    for (const { request } of this.#waiting.splice(0)) this.#end(request, code, reason);
  }

  /** Resolves when no run is in progress. */
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
        ? startTimer(executorTimeout * 1_000, () =>
            abort.abort(new JobEndedError(`The job exceeded its time-out of ${executorTimeout} s.`, codes.timedOut)),
          )
        : undefined;
    log(
      logId,
      `----------- ${request.executorHandler} begins, parameter ${JSON.stringify(executorParams)}, shard ${broadcastIndex}/${broadcastTotal} -----------`,
    );
    let code: number = codes.ok;
    let msg = '';
    try {
      const context: JobContext = {
        log: (text) => log(logId, text),
        signal: abort.signal,
        jobId,
        logId,
        shard: [broadcastIndex, broadcastTotal],
      };
      const result = await unlessGivenUp(
        Promise.resolve().then(() => handler(executorParams, context)),
        abort.signal,
        graceMs,
      );
      abort.signal.throwIfAborted();
      msg = typeof result === 'string' ? result : '';
    } catch (error) {
      const reason = abort.signal.aborted ? abort.signal.reason : error;
      code = reason instanceof JobEndedError ? reason.end : codes.failed;
      msg = reason instanceof JobEndedError ? reason.reason : storedError(reason).message;
      log(
        logId,
        `${reason instanceof JobEndedError ? 'ended' : 'failed'}: ${reason instanceof Error && !(reason instanceof JobEndedError) ? (reason.stack ?? msg) : msg}`,
      );
    } finally {
      timer?.clear();
    }
    log(logId, `----------- ${request.executorHandler} ended with ${code} -----------`);
    this.#end(request, code, msg);
  }

  #end({ logId, logDateTime }: TriggerRequest, code: number, msg: string): void {
    this.#options.ended({ logId, logDateTime, code, msg: msg.slice(0, 2_000) });
  }
}
