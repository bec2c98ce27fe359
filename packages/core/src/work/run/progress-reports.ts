import type { Logger } from '../../observe/logger.ts';
import { startTimer, type Timer } from '../../time/timer.ts';
import type { ClaimedRow } from '../row/table-sql.ts';
import type { WorkTable } from '../row/work-table.ts';

/** Time from a report to its write, at least, in ms: a run that succeeds within it costs no write. */
const firstMs = 50;
/** Time between two writes, at least, in ms. */
const everyMs = 1_000;

interface Report {
  readonly row: ClaimedRow;
  /** JSON that is not written yet. */
  pending: string | undefined;
  /** True once a report of this run was written. */
  written: boolean;
}

/**
 * The reports of a worker's runs. They are written together: the first soon, later ones once a second, so that a handler may report as often
 * as it likes.
 */
export class ProgressReports {
  readonly #table: WorkTable;
  readonly #logger: Logger;
  readonly #reports = new Map<string, Report>();
  #timer: Timer | undefined;
  #lastWrite = Number.NEGATIVE_INFINITY;
  #writing: Promise<void> | undefined;

  constructor(table: WorkTable, logger: Logger) {
    this.#table = table;
    this.#logger = logger;
  }

  /** The number of runs under way that have reported. */
  get size(): number {
    return this.#reports.size;
  }

  /** Notes a report, to be written soon. */
  report(row: ClaimedRow, json: string): void {
    const report = this.#reports.get(row.id);
    if (report?.row === row) report.pending = json;
    else this.#reports.set(row.id, { row, pending: json, written: false });
    this.#timer ??= startTimer(Math.max(firstMs, this.#lastWrite + everyMs - performance.now()), () => {
      this.#timer = undefined;
      void this.#write();
    }).unref();
  }

  /**
   * Call it when a run ends, before its verdict is written: afterwards the database refuses the report. Writes the last report, except that of a
   * run that succeeds before its first report was written. A run that reported nothing costs nothing here.
   */
  end(row: ClaimedRow, succeeded: boolean): Promise<void> | undefined {
    const report = this.#reports.get(row.id);
    if (report?.row !== row) return undefined;
    if (report.pending === undefined || (succeeded && !report.written)) {
      this.#reports.delete(row.id);
      return this.#writing;
    }
    return this.#flush().then(() => {
      if (this.#reports.get(row.id) === report) this.#reports.delete(row.id);
    });
  }

  async #flush(): Promise<void> {
    await this.#writing;
    await this.#write();
  }

  #write(): Promise<void> {
    return (this.#writing ??= this.#writeNow().finally(() => {
      this.#writing = undefined;
    }));
  }

  async #writeNow(): Promise<void> {
    this.#lastWrite = performance.now();
    const reports: { row: ClaimedRow; progress: string }[] = [];
    for (const report of this.#reports.values()) {
      if (report.pending === undefined) continue;
      reports.push({ row: report.row, progress: report.pending });
      report.pending = undefined;
      report.written = true;
    }
    try {
      await this.#table.report(reports);
    } catch (error) {
      this.#logger.debug({ err: error, rows: reports.length }, 'the progress of runs could not be written; the next report will be');
    }
  }
}
