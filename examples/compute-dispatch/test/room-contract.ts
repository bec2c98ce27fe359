import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import type { PowerEvent } from '../src/power/event.ts';
import type { DispatchAdapter, GrantRequest } from '../src/room/adapter.ts';

export interface ContractSetup {
  readonly adapter: DispatchAdapter;
  /** Everything that the room has told so far. */
  readonly events: readonly PowerEvent[];
  /** A machine that is out of service, if the room has one. */
  readonly down?: string;
}

/** What every room must do. Give it a room of at least twenty free machines, that loses and delays nothing. */
export function roomContract(setup: () => ContractSetup): void {
  let token = Math.trunc(performance.now()) * 1_000;
  const request = (machineId: string, epoch: number): GrantRequest => {
    token += 1;
    return { token: String(token), machineId, epoch, ip: '10.0.0.1', network: 'vlan-100', parameters: { codec: 'h264' } };
  };
  const machines = async () => (await setup().adapter.list({ limit: 1_000 })).machines;
  const lease = async (machineId: string) => (await machines()).find((machine) => machine.machineId === machineId)?.lease;
  let next = 0;
  const machine = async () => (await machines())[next++]?.machineId ?? '';

  it('lists its machines in pages, in order, each once', async () => {
    const { adapter } = setup();
    const ids: string[] = [];
    let after: string | undefined;
    do {
      const page = await adapter.list({ limit: 7, ...(after === undefined ? {} : { after }) });
      expect(page.atMs).toBeGreaterThan(1.7e12);
      ids.push(...page.machines.map(({ machineId }) => machineId));
      after = page.next ?? undefined;
    } while (after !== undefined);
    expect(ids).toEqual((await machines()).map(({ machineId }) => machineId));
    expect(ids).toEqual([...ids].sort());
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('grants a token once, however often it is asked', async () => {
    const { adapter } = setup();
    const one = request(await machine(), 1);
    const [first] = await adapter.grant([one]);
    expect(first).toMatchObject({ outcome: 'granted' });
    expect(await adapter.grant([one, one])).toEqual([first, first]);
    expect(await lease(one.machineId)).toMatchObject({ token: one.token, epoch: 1, power: null });
  });

  it('does nothing for a stale epoch, and lets a higher one take the machine', async () => {
    const { adapter } = setup();
    const id = await machine();
    const [one, stale, higher] = [request(id, 5), request(id, 5), request(id, 6)];
    await adapter.grant([one]);
    expect(await adapter.grant([stale, request(id, 4)])).toEqual([
      { outcome: 'refused', reason: 'stale' },
      { outcome: 'refused', reason: 'stale' },
    ]);
    expect(await adapter.power([{ ...stale, to: 'ON' }])).toEqual([{ outcome: 'stale' }]);
    expect(await adapter.grant([higher])).toMatchObject([{ outcome: 'granted' }]);
    expect(await adapter.power([{ ...one, to: 'ON' }])).toEqual([{ outcome: 'stale' }]);
    expect(await lease(id)).toMatchObject({ token: higher.token });
  });

  it('switches, tells it once with the time at which it happened, and lists since when', async () => {
    const { adapter, events } = setup();
    const one = request(await machine(), 1);
    await adapter.grant([one]);
    expect(
      await adapter.power([
        { ...one, to: 'ON' },
        { ...one, to: 'ON' },
      ]),
    ).toEqual([{ outcome: 'accepted' }, { outcome: 'accepted' }]);
    const told = () => events.filter(({ token }) => token === one.token);
    await until(() => told().length > 0);
    const [on] = told();
    expect(on).toMatchObject({ kind: 'ON', machineId: one.machineId, epoch: 1 });
    expect((await lease(one.machineId))?.power).toEqual({ state: 'ON', sinceMs: on?.occurredAtMs, sequence: on?.sequence });
    await adapter.power([{ ...one, to: 'OFF' }]);
    await until(() => told().length > 1);
    expect(told().map(({ kind }) => kind)).toEqual(['ON', 'OFF']);
    expect(told()[1]?.sequence).toBeGreaterThan(on?.sequence ?? 0);
  });

  it('releases, switches off what runs, and says since when; again it says the same', async () => {
    const { adapter, events } = setup();
    const one = request(await machine(), 1);
    await adapter.grant([one]);
    await adapter.power([{ ...one, to: 'ON' }]);
    await until(() => events.some(({ token, kind }) => token === one.token && kind === 'ON'));
    const [first] = await adapter.release([one]);
    expect(first).toMatchObject({ outcome: 'released', power: { state: 'OFF' } });
    const [again] = await adapter.release([one]);
    const since = (result: typeof first) => (result?.outcome === 'released' ? result.power?.sinceMs : undefined);
    expect(since(again)).toBe(since(first));
    expect(await lease(one.machineId)).toBeNull();
    expect(await adapter.power([{ ...one, to: 'ON' }])).toEqual([{ outcome: 'stale' }]);
  });

  it('grants no token that was released before it was granted', async () => {
    const { adapter } = setup();
    const one = request(await machine(), 3);
    expect(await adapter.release([one])).toMatchObject([{ outcome: 'released', power: null }]);
    expect(await adapter.grant([one])).toEqual([{ outcome: 'refused', reason: 'stale' }]);
  });

  it('answers many at once, in order', async () => {
    const { adapter } = setup();
    const ids = (await machines()).slice(-6).map(({ machineId }) => machineId);
    const requests = ids.map((id, i) => request(i === 2 ? 'no-such-machine' : id, 1));
    const results = await adapter.grant(requests);
    expect(results.map(({ outcome }) => outcome)).toEqual(['granted', 'granted', 'refused', 'granted', 'granted', 'granted']);
  });
}
