import { existsSync } from 'node:fs';
import { S3Client } from '@aws-sdk/client-s3';
import {
  type CodeRunner,
  createCodeRunner,
  databaseFiles,
  databaseQueue,
  type Executor,
  ExecutorUnavailableError,
  type Language,
  python,
  type Routes,
  type RunnerWorker,
  r,
  scala,
} from '@holdfast/code-runner';
import { kubernetes } from '@holdfast/code-runner/kubernetes';
import { rabbitQueue } from '@holdfast/code-runner/rabbitmq';
import { s3Files } from '@holdfast/code-runner/s3';
import { localSandbox } from '@holdfast/code-runner/sandbox';
import { HoldfastError, type Logger } from '@holdfast/core';
import type { Knex } from 'knex';
import type { Config } from './config.ts';

export interface AlgorithmOptions {
  readonly knex: Knex;
  readonly config: Pick<
    Config,
    | 'DISPATCH_EXECUTOR'
    | 'DISPATCH_KUBERNETES_NAMESPACE'
    | 'DISPATCH_S3_URL'
    | 'DISPATCH_BROKER_URL'
    | 'DISPATCH_RUN_QUEUE_URL'
    | 'DISPATCH_RUN_SLOTS'
  >;
  /** True if this process runs programs. If not, they can only be edited and viewed here. Default true. */
  readonly work?: boolean;
  readonly logger: Logger;
}

/** Algorithm tasks of tenants: small programs, run by the executor that the configuration names. */
export class Algorithm {
  readonly runner: CodeRunner;
  readonly routes: Routes;
  /** The languages whose programs can be run. */
  readonly languages: readonly Language[];
  /** A sentence that tells people where programs run. */
  where = '';
  /** The reason why programs cannot be run; `undefined` if they can. */
  problem: string | undefined;
  readonly #worker: RunnerWorker;
  readonly #work: boolean;
  readonly #executor: Executor;
  readonly #logger: Logger;

  constructor({ knex, config, logger, work = true }: AlgorithmOptions) {
    this.#work = work;
    this.#logger = logger;
    this.#executor = executorOf(config, logger);
    const all = [python(), scala(), r()];
    // A cluster has its languages in images; on this machine they must be installed.
    this.languages = this.#executor.scope === 'cluster' ? all : all.filter(({ requires }) => requires.every(existsSync));
    const broker = config.DISPATCH_RUN_QUEUE_URL ?? config.DISPATCH_BROKER_URL;
    this.runner = createCodeRunner({
      knex,
      executor: this.#executor,
      languages: this.languages.length > 0 ? this.languages : all,
      files: filesOf(config),
      queue: broker && /^amqps?:/.test(broker) ? rabbitQueue({ url: broker, logger }) : databaseQueue(),
      pools: { small: { slots: config.DISPATCH_RUN_SLOTS, limits: { memoryBytes: 256 * 2 ** 20, timeoutMs: 300_000 } } },
      logger,
    });
    this.#worker = this.runner.worker();
    this.routes = this.runner.routes({
      basePath: '/v1/algorithm',
      actor: (request) => request.headers.get('x-tenant') ?? '',
    });
  }

  /** Starts the worker. If something is missing, the page and the log report it, and the rest of the service continues. */
  async start(): Promise<void> {
    try {
      // A process that only shows tasks needs no rights in the cluster.
      if (!this.#work && this.#executor.scope === 'cluster') {
        this.where = 'Jobs of a Kubernetes cluster';
        return;
      }
      const { summary } = await this.#executor.probe();
      this.where = summary;
      if (this.#work) await this.#worker.start();
    } catch (error) {
      if (!HoldfastError.is(error) && !(error instanceof Error)) throw error;
      this.problem = `Programs can't be run here: ${(error as Error).message}`;
      this.#logger.error({ err: error }, 'algorithm tasks can be edited, but not run');
    }
  }

  async stop(): Promise<void> {
    await this.runner.close();
  }
}

function executorOf(config: AlgorithmOptions['config'], logger: Logger): Executor {
  switch (config.DISPATCH_EXECUTOR) {
    case 'kubernetes':
      return kubernetes({ namespace: config.DISPATCH_KUBERNETES_NAMESPACE, instance: 'compute-dispatch', logger });
    case 'none':
      return localSandbox({ isolation: 'none-trusted-code-only' });
    default:
      return localSandbox();
  }
}

function filesOf(config: AlgorithmOptions['config']): ReturnType<typeof databaseFiles> {
  if (!config.DISPATCH_S3_URL) return databaseFiles();
  const url = new URL(config.DISPATCH_S3_URL);
  const bucket = url.pathname.slice(1);
  if (!bucket)
    throw new ExecutorUnavailableError(
      'DISPATCH_S3_URL names no bucket; write it behind the address, as in https://key:secret@s3.example.com/bucket.',
    );
  const client = new S3Client({
    endpoint: url.origin,
    region: url.searchParams.get('region') ?? 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: decodeURIComponent(url.username), secretAccessKey: decodeURIComponent(url.password) },
  });
  return s3Files({ client, bucket });
}
