// `node tooling/run.mjs tooling/ci-summary.ts LANE …`: the tests that passed only the second time, and the count over all lanes, last.
import { existsSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { root } from './paths.ts';

interface Results {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly assertionResults: readonly {
      readonly status: string;
      readonly fullName: string;
      readonly failureMessages?: readonly string[];
    }[];
  }[];
}

const historyFile = 'contributing/flaky-tests.md';
const history = readFileSync(join(root, historyFile), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| '));
let [passed, failed, skipped] = [0, 0, 0];
const retried: string[] = [];
for (const lane of process.argv.slice(2)) {
  const file = join(root, '.cache', `tests-${lane}.json`);
  if (!existsSync(file)) throw new Error(`${file} is not there; run the lane ${lane} first.`);
  const results = JSON.parse(readFileSync(file, 'utf8')) as Results;
  passed += results.numPassedTests;
  failed += results.numFailedTests;
  skipped += results.numPendingTests;
  for (const { name, assertionResults } of results.testResults)
    for (const { status, fullName, failureMessages = [] } of assertionResults) {
      if (status !== 'passed' || failureMessages.length === 0) continue;
      const path = relative(root, name);
      const known = history.filter((line) => line.includes(path));
      retried.push(`  ${path}, lane ${lane}: ${fullName}\n    ${failureMessages[0]?.split('\n')[0]}`);
      retried.push(
        ...(known.length > 0 ? known.map((line) => `    before: ${line}`) : [`    new: find the cause, and add a row to ${historyFile}.`]),
      );
    }
}
if (retried.length > 0) console.log(['Passed only the second time:', ...retried].join('\n'));
console.log(`Tests: ${passed} passed, ${failed} failed, ${skipped} skipped`);
