import { existsSync, readFileSync } from 'node:fs';
import type { ServiceResult } from './services/services.ts';

interface Results {
  readonly testResults: readonly {
    readonly name: string;
    readonly assertionResults: readonly {
      readonly status: string;
      readonly fullName: string;
      readonly ancestorTitles: readonly string[];
    }[];
  }[];
}

const servers = ['sqlite', 'postgres', 'mysql', 'mariadb', 'rabbitmq', 'kafka', 'redis'] as const;
/** How the tests of a server name it, where they say it otherwise. */
const clients: Readonly<Record<string, RegExp>> = { rabbitmq: /rabbitmq/i, kafka: /kafka/i, redis: /redis/i };

/** Tests per server, by what their names say they run on, and what was skipped: nothing is left out in silence. */
export function summary(lane: string, file: string, started: readonly ServiceResult[]): string {
  if (!existsSync(file)) return `lane ${lane}: no results`;
  const tests = (JSON.parse(readFileSync(file, 'utf8')) as Results).testResults.flatMap(({ assertionResults }) => assertionResults);
  const count = (some: typeof tests, status: string): number => some.filter((test) => test.status === status).length;
  const line = (name: string, some: typeof tests): string =>
    `  ${name.padEnd(28)} ${String(count(some, 'passed')).padStart(5)} passed ${String(count(some, 'failed')).padStart(4)} failed ${String(some.length - count(some, 'passed') - count(some, 'failed')).padStart(4)} skipped`;
  const lines = servers.flatMap((name) => {
    const pattern = clients[name] ?? new RegExp(`\\b${name}\\b`);
    const some = tests.filter(({ ancestorTitles }) => ancestorTitles.some((title) => pattern.test(title)));
    const version = started.find((result) => result.name === name || result.name.startsWith(`${name}-`))?.version;
    return some.length === 0 ? [] : [line(version ? `${name} ${version}` : name, some)];
  });
  const skipped = new Set(
    tests
      .filter(({ status }) => status !== 'passed' && status !== 'failed')
      .map(({ ancestorTitles, fullName }) => ancestorTitles[0] ?? fullName),
  );
  return [`lane ${lane}:`, ...lines, line('in all', tests), ...[...skipped].map((name) => `  skipped: ${name}`)].join('\n');
}
