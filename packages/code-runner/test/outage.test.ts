import { existsSync } from 'node:fs';
import { silentLogger } from '@holdfast/core';
import { throughProxy } from '@holdfast/core/testing';
import { describe, expect, it } from 'vitest';
import { createCodeRunner, python } from '../src/index.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { alice, eventsOf, logOf, onEveryDatabase, submit } from './suite.ts';

describe.runIf(existsSync('/usr/bin/bwrap'))('while the database is away', () => {
  onEveryDatabase(
    'programs',
    (suite) => {
      it('go on, and nothing that they print is lost or comes twice; nobody takes their workers for dead', async () => {
        const proxied = await throughProxy(suite.db.address);
        const options = { knex: proxied.knex, languages: [python()], logger: silentLogger, statementTimeout: 500 };
        const worker = createCodeRunner({ ...options, executor: localSandbox() });
        // Another that would take the first one's runs for lost, and one that reads by a way of its own.
        const sweeper = createCodeRunner({ ...options, executor: localSandbox() });
        const reader = suite.runner();
        try {
          await worker.worker({ lease: 600, sweep: 100 }).start();
          const { id } = await submit(reader, 'import time\nfor i in range(100):\n  print("line", i)\n  time.sleep(0.05)\n');
          for await (const event of reader.runs.events(id, { ...alice, signal: AbortSignal.timeout(20_000) }))
            if (event.type === 'log') break;
          await sweeper.worker({ lease: 600, sweep: 100 }).start();
          await new Promise((resolve) => setTimeout(resolve, 900));
          // Answers are lost as well as questions: some of what is appended is appended, and nobody hears of it.
          for (let cut = 0; cut < 4; cut++) {
            proxied.proxy.cutReplyAfter(30 + cut * 40);
            await new Promise((resolve) => setTimeout(resolve, 120));
          }
          proxied.proxy.set('stall');
          await new Promise((resolve) => setTimeout(resolve, 1_200));
          proxied.proxy.set('none');
          const events = await eventsOf(reader, id);
          expect(logOf(events)).toBe(Array.from({ length: 100 }, (_, i) => `line ${i}\n`).join(''));
          expect(await reader.runs.get(id, alice)).toMatchObject({ state: 3 });
        } finally {
          await sweeper.close();
          await worker.close();
          await proxied.close();
        }
      });
    },
    ['postgres', 'mariadb', 'mysql'],
  );
});
