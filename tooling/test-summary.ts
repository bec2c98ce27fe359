import { relative } from 'node:path';
import { root } from './paths.ts';
import type { Lane } from './services/lane.ts';
import type { ServiceResult } from './services/services.ts';
import { readResults } from './test-results.ts';

const servers = ['sqlite', 'postgres', 'mysql', 'mariadb', 'rabbitmq', 'kafka', 'redis'] as const;
/** Counts passed, failed and skipped tests per server, by the name of the server in the name of the test, and lists each skipped test. */
export function summary(lane: Lane, started: readonly ServiceResult[]): string {
  const results = readResults(lane);
  if (!results) return `lane ${lane}: no results`;
  const { testResults } = results;
  const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
  const count = (some: typeof tests, status: string): number => some.filter((test) => test.status === status).length;
  const line = (name: string, some: typeof tests): string =>
    `  ${name.padEnd(28)} ${String(count(some, 'passed')).padStart(5)} passed ${String(count(some, 'failed')).padStart(4)} failed ${String(some.length - count(some, 'passed') - count(some, 'failed')).padStart(4)} skipped`;
  const lines = servers.map((name) => {
    const some = tests.filter(({ fullName }) => new RegExp(`\\b${name}\\b`, 'i').test(fullName));
    const version = started.find((result) => result.name === name || result.name.startsWith(`${name}-`))?.version;
    return some.length === 0 ? `  ${name}: no tests` : line(version ? `${name} ${version.replace(/^([\d.]+).*/, '$1')}` : name, some);
  });
  const skipped = tests.filter(({ status }) => status !== 'passed' && status !== 'failed').map(({ fullName }) => fullName);
  const longest = testResults
    .map(({ name, startTime, endTime }) => ({ name: relative(root, name), seconds: (endTime - startTime) / 1_000 }))
    .sort((a, b) => b.seconds - a.seconds)
    .slice(0, 15)
    .map(({ name, seconds }) => `  ${seconds.toFixed(0).padStart(5)} s  ${name}`);
  return [
    `lane ${lane}:`,
    ...lines,
    line('in all', tests),
    ...skipped.map((name) => `  skipped: ${name}`),
    'The test files that took longest:',
    ...longest,
  ].join('\n');
}
