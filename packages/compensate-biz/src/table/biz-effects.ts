import { Caps, Children, SettleEffects, Turns, type WorkTable } from '@holdfast/core';
import type { BizTypes } from '../biz-type.ts';
import { fanOutsByUnfinished, unfinishedSql } from './unfinished.ts';

/** Scope of the gates, and of the slots, of a type. */
export function gateScope(type: string): string {
  return `compensate-biz:${type}`;
}

/** Changes that the end of a run makes besides its own row. */
export interface BizEffects {
  readonly turns: Turns;
  readonly caps: Caps;
  readonly children: Children;
  readonly effects: SettleEffects;
}

/** Turns of `serial` types, slots of types with a `globalConcurrency`, and the children of fan-outs. */
export function bizEffects(table: WorkTable, types: BizTypes): BizEffects {
  const turns = new Turns(table, {
    scope: gateScope,
    serial: (type) => types[type]?.serial === true,
    column: 'gate',
    key: (row) => row.payload.gate ?? null,
  });
  const caps = new Caps(table, { scope: gateScope, limit: (type) => types[type]?.globalConcurrency });
  const children = new Children(table, {
    parentTable: 'compensate_biz_fan_out',
    openParents: fanOutsByUnfinished(table.database),
    mayBeOpen: unfinishedSql,
    parentColumns: ['on_complete'],
    countTable: 'compensate_biz_fan_out_count',
    resultColumn: 'context',
    parent: (row) => row.payload.parentId ?? null,
  });
  return { turns, caps, children, effects: new SettleEffects({ turns, caps, children }) };
}
