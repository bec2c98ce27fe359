import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './paths.ts';
import type { Lane } from './services/lane.ts';

/** The results of one lane, as vitest's JSON reporter writes them. */
export interface TestResults {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly {
    /** Absolute path of the test file. */
    readonly name: string;
    /** Epoch ms. */
    readonly startTime: number;
    readonly endTime: number;
    readonly assertionResults: readonly {
      readonly status: string;
      readonly fullName: string;
      /** Not empty in a passed test if the test failed first. */
      readonly failureMessages?: readonly string[];
    }[];
  }[];
}

/** The file that a lane's results are written to. */
export function resultsFile(lane: Lane): string {
  return join(root, '.cache', `tests-${lane}.json`);
}

/** The results of the lane's last run, or `undefined` if there are none. */
export function readResults(lane: Lane): TestResults | undefined {
  const file = resultsFile(lane);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as TestResults) : undefined;
}
