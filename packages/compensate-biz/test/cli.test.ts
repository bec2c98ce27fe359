import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { coreSchema, migrate } from '@holdfast/core';
import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compensateBizSchema } from '../src/index.ts';

const main = join(import.meta.dirname, '..', '..', 'core', 'src', 'cli', 'main.ts');

describe.each(testDialects())('holdfast on $name', (dialect) => {
  let db: TestDatabase;
  let folder: string;
  beforeAll(async () => {
    db = await dialect.create();
    // Inside the package, so that its imports resolve.
    folder = mkdtempSync(join(import.meta.dirname, '.cli-'));
    writeFileSync(
      join(folder, 'holdfast.config.ts'),
      `import { coreSchema, silentLogger } from '@holdfast/core';
import { connectTestDatabase } from '@holdfast/core/testing';
import { bizType, compensateBizSchema, createCompensateBiz } from '@holdfast/compensate-biz';
import { any } from '../suite-schema.ts';
const knex = connectTestDatabase(${JSON.stringify(db.address)});
const biz = createCompensateBiz({ knex, logger: silentLogger, types: { step: bizType(any) } });
export default {
  knex,
  schemas: [coreSchema, compensateBizSchema],
  inspectables: [biz.inspect()],
  jobs: { sweep: () => biz.sweep(), submit: (args: string[]) => biz.now().submit('step', { args }), fail: async ([n]: string[]) => { await biz.now().submitMany('step', Array.from({ length: Number(n) }, (_, i) => ({ i }))); await knex('compensate_biz').where('context', 'like', '{"i"%').update({ status: 'FAILED' }); }, fanOut: async () => { const made = await biz.fanOut('step', [{}, {}], { key: 'cut' }); await knex.transaction((trx) => biz.in(trx).cancel({ id: made.parentId })); await biz.sweep(); return made; } },
  close: () => biz.close(),
};
`,
    );
  });
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true });
    await db.drop();
  });
  const run = (...args: string[]) =>
    promisify(execFile)(process.execPath, ['--conditions=@holdfast/source', '--disable-warning=ExperimentalWarning', main, ...args], {
      cwd: folder,
    }).then(
      ({ stdout }) => ({ code: 0, stdout, stderr: '' }),
      (error: { code: number; stdout: string; stderr: string }) => error,
    );

  it('says that migrate comes first where there are no tables', async () => {
    expect(await run('status')).toMatchObject({ code: 1, stderr: expect.stringMatching(/Run holdfast migrate first\.\n$/) });
  });

  it('prints the SQL, migrates, and has nothing left to do then', async () => {
    const sql = (await run('sql')).stdout;
    const fresh = await dialect.create();
    try {
      for (const statement of sql.replaceAll(/^--.*$/gm, '').split(/;\n/)) if (statement.trim()) await fresh.knex.raw(statement);
      expect(await migrate(fresh.knex, [coreSchema, compensateBizSchema])).toEqual({ core: [], 'compensate-biz': [] });
    } finally {
      await fresh.drop();
    }
    expect((await run('migrate')).stdout).toBe(
      'core: 0001_create, 0002_rate, 0003_trailing_spaces, 0004_retention\ncompensate-biz: 0001_create, 0002_trailing_spaces, 0003_lookup, 0004_result, 0005_due_and_ended, 0006_cancel\n',
    );
    expect((await run('migrate')).stdout).toBe('core: up to date\ncompensate-biz: up to date\n');
  });

  it('runs jobs, counts, lists, and redrives what failed, on record', async () => {
    const submitted = JSON.parse((await run('run', 'submit', 'a', 'b')).stdout);
    expect(submitted.duplicate).toBe(false);
    expect(JSON.parse((await run('run', 'sweep')).stdout)).toMatchObject({ rescued: 0, unknown: 0 });
    await db.knex('compensate_biz').where({ id: submitted.id }).update({ status: 'FAILED' });
    expect((await run('status')).stdout).toContain('compensate-biz\ttype=step\tstatus=FAILED\tcount=1');
    expect(JSON.parse((await run('list', '--status', 'FAILED')).stdout)).toMatchObject({ id: submitted.id });
    expect((await run('redrive', '--status', 'FAILED', '--dry-run')).stdout).toContain(`${submitted.id}: would be redriven`);
    expect((await run('redrive', '--dry-run')).stderr).toContain('redrive needs ids, or --status');
    // Ids are read as the run reads them.
    expect((await run('redrive', `00${submitted.id}`, '--dry-run')).stdout).toContain('would be redriven');
    expect(await run('redrive', '0', '--dry-run')).toMatchObject({ code: 1, stdout: expect.stringContaining('0: not redriven') });
    expect(await run('redrive', '999', '--dry-run')).toMatchObject({ code: 1, stdout: expect.stringContaining('999: not redriven') });
    const anonymous = await run('redrive', submitted.id);
    expect(anonymous).toMatchObject({ code: 1 });
    expect(anonymous.stderr).toContain('--actor WHO --reason WHY');
    expect((await run('redrive', submitted.id, '--actor', 'ann', '--reason', 'mended')).stdout).toContain('redriven');
    expect((await db.knex('compensate_biz').where({ id: submitted.id }).first()).status).toBe('WAIT_HANDLE');
  });

  it('redrives no fan-out that was cancelled, and says why', async () => {
    const { parentId } = JSON.parse((await run('run', 'fanOut')).stdout);
    expect(await run('redrive', parentId, '--dry-run')).toMatchObject({ code: 1, stdout: expect.stringContaining('not redriven') });
    expect(await run('redrive', parentId, '--actor', 'ann', '--reason', 'why not')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('was cancelled'),
    });
    const all = ['redrive', '--status', 'CANCELLED', '--actor', 'ann', '--reason', 'after all'];
    expect((await run(...all, '--type', 'fan-out')).stderr).toContain("can't be redriven");
    expect((await run(...all)).stdout).toMatch(/compensate-biz: 2 of 2 redriven\n$/);
    await db.knex('compensate_biz').delete();
  });

  it('redrives every row of a status, however many, and counts them', async () => {
    const now = await db.knex('compensate_biz').where({ status: 'FAILED' }).count({ n: '*' });
    expect(Number(now[0]?.n)).toBe(0);
    await run('run', 'fail', '1100');
    const { stdout } = await run('redrive', '--status', 'FAILED', '--actor', 'ann', '--reason', 'mended');
    expect(stdout).toMatch(/compensate-biz: 1100 of 1100 redriven\n$/);
  });

  it('redrives what a filter selects, within a rate, and says before what it would do', async () => {
    await db.knex('compensate_biz').delete();
    await run('run', 'fail', '3');
    const { id } = await db.knex('compensate_biz').first('id');
    await db.knex('compensate_biz').where({ id }).update({ tenant: 'acme', subject: 'order-1', dead_reason: 'rejected' });
    const filter = ['redrive', '--package', 'compensate-biz', '--type', 'step', '--rate', '500'];
    expect((await run(...filter, '--dry-run')).stdout).toMatch(/: would be redriven\n(.*\n)*compensate-biz: 3 of 3 would be redriven\n$/);
    for (const [option, value, count] of [
      ['--tenant', 'acme', 1],
      ['--subject', 'order-1', 1],
      ['--key', 'nobody', 0],
      ['--failed-reason', 'rejected', 1],
      ['--failed-before', '2001-01-01T00:00:00Z', 0],
      ['--failed-after', '2001-01-01T00:00:00Z', 3],
    ] as const)
      expect((await run(...filter, '--dry-run', option, value)).stdout, option).toMatch(
        new RegExp(`compensate-biz: ${count} of ${count} would be redriven\n$`),
      );
    expect((await run('list', '--type', 'step', '--tenant', 'acme')).stdout.split('\n')).toHaveLength(2);
    expect((await run(...filter, '--status', 'FAILED')).stderr).toContain('add --actor WHO --reason WHY, or --dry-run');
    expect((await run(...filter, '--actor', 'ann', '--reason', 'mended')).stdout).toMatch(/compensate-biz: 3 of 3 redriven\n$/);
    expect(await db.knex('compensate_biz').where({ status: 'FAILED' })).toEqual([]);
  });

  it.each([
    [['redrive', '--type', 'step', '--dry-run', '--rate', '0'], /rate is 0; give a number of rows per second, above 0/],
    [['redrive', '--type', 'step', '--dry-run', '--failed-before', 'noon'], /--failed-before is "noon"; give a time such as/],
    [['run', 'nonsense'], /no job "nonsense"; known are sweep, submit, fail/],
    [['status', '--config', 'absent.ts'], /No absent\.ts here/],
    [['list', '--limit', '0'], /limit is 0/],
    [['list', '--status', 'LOST'], /No package has the status LOST; there are WAIT_HANDLE, .* \(compensate-biz\)/],
    [['list', '--package', 'outbox'], /no package outbox among the inspectables of the configuration; there are compensate-biz/],
    [
      ['redrive', '--status', 'SUCCESS', '--dry-run'],
      /No rows with the status SUCCESS can be redriven; these can: compensate-biz \(FAILED, CANCELLED\)/,
    ],
    [['redrive', 'x', '--actor', 'a', '--reason', 'r'], /id is "x"/],
    [['redrive', '1', '--tenant', 'acme', '--dry-run'], /either ids or --status and other filters/],
    [['redrive', '1', '--limit', '1', '--dry-run'], /either ids or --status and other filters/],
  ])('says what is wrong with %j', async (args, message) => {
    const result = await run(...args);
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(message);
  });

  it.each([
    [['nonsense'], /^holdfast: There is no command nonsense\./],
    [['toString'], /^holdfast: There is no command toString\./],
    [['list', '--stauts', 'FAILED'], /^holdfast: There is no option --stauts\.[\s\S]*\n {2}list \[--package P\]/],
    [['--nonsense'], /^holdfast: There is no option --nonsense\./],
    [['-x', 'list'], /^holdfast: There is no option -x\./],
    [['list', '--failed-before', '2026-11-30'], /^holdfast: list takes no option --failed-before\./],
    [['list', '--dry-run'], /^holdfast: list takes no option --dry-run\./],
    [['migrate', '--package', 'outbox'], /^holdfast: migrate takes no option --package\./],
    [['status', '--status', 'FAILED'], /^holdfast: status takes no option --status\./],
    [['redrive', '--after', '7'], /^holdfast: redrive takes no option --after\./],
    [['--actor', 'ann', 'run', 'sweep'], /^holdfast: run takes no option --actor\./],
    [['list', '7'], /^holdfast: list takes no argument "7"\./],
    [['list', '--limit'], /^holdfast: Option '--limit <value>' argument missing\./],
    [['redrive', '--dry-run=yes'], /^holdfast: Option '--dry-run' does not take an argument\./],
    [['list', '--kind', 'a', '--type', 'b'], /^holdfast: --kind and --type are one option; give one\./],
  ])('refuses %j with exit code 2, and shows how it is used', async (args, message) => {
    const { code, stderr } = await run(...args);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
    expect(stderr).toContain('\n\nholdfast <command> [--config FILE]\n');
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it('takes run for a command only where the command stands, and leaves to a job its own options', async () => {
    expect(await run('list', '--key', 'run', '--status', 'FAILED')).toMatchObject({ code: 0, stdout: '' });
    expect(await run('list', '--key', 'run', '--stauts', 'FAILED')).toMatchObject({ code: 2 });
    const { id } = JSON.parse((await run('run', 'submit', '--nonsense', 'run')).stdout);
    const { context } = await db.knex('compensate_biz').where({ id }).first('context');
    expect(JSON.parse(context)).toEqual({ args: ['--nonsense', 'run'] });
    expect(await run('--help')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/ {2}redrive ID…[\s\S]* {2}FILTER [\s\S]* {2}run JOB/),
    });
  });
});
