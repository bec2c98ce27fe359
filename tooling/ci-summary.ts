// `node tooling/run.mjs tooling/ci-summary.ts LANE …`: prints the tests that passed only the second time, and then the count over all lanes.
import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { root } from './paths.ts';
import { laneOf } from './services/lane.ts';
import { readResults, resultsFile } from './test-results.ts';

const historyFile = 'contributing/flaky-tests.md';
const history = readFileSync(join(root, historyFile), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| '));
let [passed, failed, skipped] = [0, 0, 0];
const retried: string[] = [];
for (const lane of process.argv.slice(2).map(laneOf)) {
  const results = readResults(lane);
  if (!results) throw new Error(`There are no results of the lane ${lane} (${resultsFile(lane)}). Run this lane first.`);
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
if (retried.length > 0) console.log(['Tests that failed first and passed the second time:', ...retried].join('\n'));
console.log(`Tests: ${passed} passed, ${failed} failed, ${skipped} skipped`);
