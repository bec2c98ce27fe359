import { foreignErrors } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase('odd values', (suite) => {
  const by = { actor: 'ann', reason: 'odd' };

  it('are answered, or refused with an error that says so, wherever a caller names a row or a key', async () => {
    const biz = suite.create({ plain: bizType(any), serial: bizType(any, { serial: true }) });
    const inTransaction = (work: (calls: ReturnType<typeof biz.in>) => Promise<unknown>) =>
      suite.db.knex.transaction((trx) => work(biz.in(trx)));
    const inspect = biz.inspect();
    expect(
      await foreignErrors({
        'submit bizId': (bizId) => biz.now().submit('plain', {}, { bizId }),
        'submit bizId of a serial type': (bizId) => biz.now().submit('serial', {}, { bizId }),
        'submit once': (once) => biz.now().submit('plain', {}, { once }),
        'submit once.key': (key) => biz.now().submit('plain', {}, { once: { key } }),
        'submit tenant': (tenant) => biz.now().submit('plain', {}, { tenant }),
        'submit subject': (subject) => biz.now().submit('plain', {}, { subject }),
        'submit type': (type: string) => biz.now().submit(type as 'plain', {}),
        'submit priority': (priority) => biz.now().submit('plain', {}, { priority }),
        cancel: (target) => inTransaction((calls) => calls.cancel(target)),
        'cancel id': (id) => inTransaction((calls) => calls.cancel({ id })),
        'cancel type': (type) => inTransaction((calls) => calls.cancel({ type, once: 'k' })),
        'cancel once': (once) => inTransaction((calls) => calls.cancel({ type: 'plain', once })),
        reschedule: (target) => inTransaction((calls) => calls.reschedule(target, 1)),
        'reschedule id': (id) => inTransaction((calls) => calls.reschedule({ id }, 1)),
        waitFor: (target) => biz.waitFor(target, { timeout: 1 }),
        'waitFor id': (id) => biz.waitFor({ id }, { timeout: 1 }),
        'waitFor once': (once) => biz.waitFor({ type: 'plain', once }, { timeout: 1 }),
        get: (id) => biz.get(id),
        redrive: (id) => biz.redrive(id, by),
        'redrive bizId': (bizId) => biz.redrive({ bizId }, { dryRun: true }),
        'redrive after': (after) => biz.redrive({}, { dryRun: true, after }),
        'redrive actor': (actor) => biz.redrive('1', { ...by, actor }),
        'redrive reason': (reason) => biz.redrive('1', { ...by, reason }),
        ...Object.fromEntries(
          ['type', 'bizId', 'subject', 'tenant', 'status', 'after', 'limit'].map((name) => [
            `find ${name}`,
            (value: never) => biz.find({ [name]: value }),
          ]),
        ),
        ...Object.fromEntries(
          ['kind', 'key', 'subject', 'tenant', 'status', 'after', 'limit'].map((name) => [
            `list ${name}`,
            (value: never) => biz.list({ [name]: value }),
          ]),
        ),
        ...Object.fromEntries(Object.entries(inspect.actions).map(([name, act]) => [name, (target: never) => act(target, by)])),
        'pause actor': (actor) => inspect.actions.pause('plain', { ...by, actor }),
        mayRedrive: (id) => inspect.mayRedrive(id),
        'fanOut key': (key) => biz.fanOut('plain', [], { key }),
        'fanOut tenant': (tenant) => biz.fanOut('plain', [], { key: `tenant ${typeof tenant}`, tenant }),
        'fanOut partOf': (partOf) => biz.fanOut('plain', [], { key: `part ${typeof partOf}`, partOf }),
        'fanOut childKey': (key) => biz.fanOut('plain', [{}], { key: `child ${typeof key}`, childKey: () => key }),
      }),
    ).toEqual([]);
  });

  it('are not stored as the id of another row: a bizId is a text, a safe integer or a bigint', async () => {
    const biz = suite.create({ keyed: bizType(any) });
    for (const bizId of [2 ** 53, 2 ** 53 + 1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, {}, null, true]) {
      const refusal = /^bizId is .*; give a text of 1 to 191 characters, a bigint, or a whole number from/;
      await expect(biz.now().submit('keyed', {}, { bizId: bizId as never })).rejects.toThrow(refusal);
      await expect(biz.find({ bizId: bizId as never })).rejects.toThrow(refusal);
    }
    for (const bizId of ['7', 7, 7n, 2 ** 53 - 1, 2n ** 53n]) await biz.now().submit('keyed', {}, { bizId });
    expect(await biz.find({ bizId: 7 })).toHaveLength(3);
    expect(await biz.find({ bizId: 2n ** 53n })).toHaveLength(1);
    expect(await biz.find({ type: 'keyed' })).toHaveLength(5);
  });

  it.each(['19', 19, 19n, null])('are no target of a cancel: %s', async (target) => {
    const biz = suite.create({ plain: bizType(any) });
    await expect(suite.db.knex.transaction((trx) => biz.in(trx).cancel(target as never))).rejects.toThrow(
      /^The target is .*; name a row by { id } or by { type, once }\./,
    );
  });
});
