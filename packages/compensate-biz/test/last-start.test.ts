import { until } from '@holdfast/core/testing';
import { it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase('last start', (suite) => {
  it.each(['of its type', 'of another type', 'of another worker'])(
    'runs also while another row %s that has one start left does not end',
    async (other) => {
      const [endless, quick] = [`endless ${other}`, `quick ${other}`];
      const types = { [endless]: bizType(any, { timeout: '1h' }), [quick]: bizType(any) };
      const biz = suite.create(types);
      let release: () => void = () => undefined;
      const forever = new Promise<void>((resolve) => {
        release = resolve;
      });
      let started = false;
      let ran = false;
      biz.handle(endless, (context) => {
        if (context.quick) ran = true;
        else started = true;
        return context.quick ? undefined : forever;
      });
      biz.handle(quick, () => {
        ran = true;
      });
      const lastStart = async (type: string, context: object) =>
        suite.db.knex('compensate_biz').insert({ biz_type: type, context: JSON.stringify(context), lost: 2, starts: 2 });
      await lastStart(endless, {});
      const [first, second] =
        other === 'of another worker'
          ? [biz.worker({ lease: '300ms', types: [endless] }), biz.worker({ lease: '300ms', types: [quick] })]
          : [biz.worker({ lease: '300ms' })];
      await first?.start();
      await until(() => started);
      await second?.start();
      await lastStart(other === 'of its type' ? endless : quick, { quick: true });
      biz.wake();
      await until(() => ran);
      release();
      await first?.stop();
      await second?.stop();
    },
  );
});
