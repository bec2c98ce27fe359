import { parseArgs } from 'node:util';
import { dispatch } from './dispatch/main.ts';
import { notifier } from './notifier/main.ts';
import { outbox } from './outbox/main.ts';
import { runner } from './runner/main.ts';
import { scan } from './scan/main.ts';
import { tasks } from './tasks.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean' },
    rounds: { type: 'string' },
    only: { type: 'string' },
    members: { type: 'string' },
    backlog: { type: 'string' },
  },
});
const benches: Record<string, typeof tasks> = { tasks, outbox, notifier, scan, runner, dispatch };
const bench = benches[positionals[0] ?? ''];
if (!bench) {
  console.error(
    `usage: npm run bench -- ${Object.keys(benches).join('|')} [--json] [--rounds 5] [--only CASE,…] [--members N] [--backlog N]`,
  );
  process.exit(2);
}
await bench({
  json: values.json ?? false,
  rounds: Number(values.rounds ?? 5),
  only: values.only === undefined ? undefined : new Set(values.only.split(',')),
  members: Number(values.members ?? 2_650_000),
  backlog: Number(values.backlog ?? 10_000_000),
});
