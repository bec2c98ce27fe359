import { expect, it } from 'vitest';
import { OutageLog } from '../src/observe/outage-log.ts';
import { recordLog } from '../src/testing/recorded-log.ts';

it('warns once in each outage, and tells its end once', () => {
  const log = recordLog();
  const outage = new OutageLog(log, { host: 'a:1' });
  outage.works('back');
  for (let n = 0; n < 2; n++) {
    for (let failures = 0; failures < 3; failures++) outage.failed(new Error('refused'), 'away; trying again');
    outage.works('back');
    outage.works('back');
  }
  expect(log.lines.map(({ level }) => level)).toEqual(['warn', 'debug', 'debug', 'info', 'warn', 'debug', 'debug', 'info']);
  expect(log.lines[0]).toMatchObject({ fields: { host: 'a:1', err: { message: 'refused' } }, message: 'away; trying again' });
});

it('tells once that a person must act, also in an outage that it has told of', () => {
  const log = recordLog();
  const outage = new OutageLog(log);
  outage.failed(new Error('away'), 'away');
  for (let n = 0; n < 2; n++) outage.refused(new Error('refused'), 'refused');
  outage.failed(new Error('away'), 'away');
  outage.works('back');
  outage.refused(new Error('refused'), 'refused');
  expect(log.lines.map(({ level }) => level)).toEqual(['warn', 'error', 'debug', 'debug', 'info', 'error']);
});
