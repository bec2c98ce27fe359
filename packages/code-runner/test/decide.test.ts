import { seededRandom } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { decide, type Ending, type Observed, type Phase } from '../src/index.ts';

/** A run's row, as much of it as decides. */
interface Row {
  id: string;
  phase: Phase;
  fence: number;
  attempt: number;
  desired: 'running' | 'stopped';
  worker: string | null;
  queueDeadline: number | null;
  startedAt: number | null;
  claimedAt: number | null;
  timeoutMs: number;
  ending: Ending | null;
  ends: number;
}

interface Thing {
  attempt: number;
  owner: string;
  status: Observed['status'];
}

/**
 * A small world: one run, up to three workers that forget everything when they crash, and things outside, which come and go, and whose
 * creation may be answered or not. Every step of a worker is one write or one deed, and it may crash between any two.
 */
class World {
  readonly random: () => number;
  readonly scope: 'process' | 'cluster';
  readonly fenced: boolean;
  readonly row: Row;
  things: Thing[] = [];
  slot: string | null = null;
  now = 1_000;
  alive = new Map<string, number>();
  /** What each worker believes: a copy of the row, and what it is about to do outside. */
  beliefs = new Map<string, { row: Row; doing?: 'create' | 'remove' | undefined }>();
  maxLive = 0;
  steps: string[] = [];

  constructor(seed: number, scope: 'process' | 'cluster', fenced = true) {
    const random = seededRandom(seed);
    this.random = () => random();
    this.scope = scope;
    this.fenced = fenced;
    this.row = {
      id: '1',
      phase: 'queued',
      fence: 0,
      attempt: 1,
      desired: 'running',
      worker: null,
      queueDeadline: this.random() < 0.1 ? 1_500 : 100_000,
      startedAt: null,
      claimedAt: null,
      timeoutMs: 5_000,
      ending: null,
      ends: 0,
    };
  }

  pick<T>(of: readonly T[]): T | undefined {
    return of[Math.floor(this.random() * of.length)];
  }

  /** A compare-and-set on phase and fence, with what changes along. */
  set(believed: Row, phase: Phase, more: Partial<Row> = {}, unlessStopped = false): boolean {
    const { row } = this;
    if (this.fenced && (row.phase !== believed.phase || row.fence !== believed.fence)) return false;
    if (unlessStopped && row.desired === 'stopped') return false;
    if (row.phase === 'terminal' && this.fenced) throw new Error('a terminal state was left');
    Object.assign(row, more, { phase });
    if (phase === 'terminal') {
      row.ends += 1;
      this.slot = null;
    }
    return true;
  }

  live(): Thing[] {
    return this.things.filter(({ status }) => status.is !== 'ended');
  }

  step(): void {
    this.now += Math.floor(this.random() * 200);
    const what = this.random();
    const workers = ['a', 'b', 'c'];
    if (what < 0.08) this.crash(this.pick(workers) ?? 'a');
    else if (what < 0.16) this.alive.set(this.pick(workers) ?? 'a', this.now + 600);
    else if (what < 0.2 && this.row.phase !== 'terminal' && this.row.phase !== 'collecting') this.row.desired = 'stopped';
    else if (what < 0.45) this.nature();
    else this.work(this.pick([...this.alive.keys()]) ?? '');
    this.maxLive = Math.max(
      this.maxLive,
      ...[1, 2, 3, 4, 5].map((attempt) => this.live().filter((thing) => thing.attempt === attempt).length),
    );
  }

  crash(worker: string): void {
    this.alive.delete(worker);
    this.beliefs.delete(worker);
    // What a process started ends with it.
    if (this.scope === 'process') this.things = this.things.filter(({ owner }) => owner !== worker);
  }

  /** Programs start, end, are evicted. */
  nature(): void {
    const thing = this.pick(this.things);
    if (!thing || thing.status.is === 'ended') return;
    if (thing.status.is === 'pending') thing.status = { is: 'running' };
    else if (this.random() < 0.5)
      thing.status = {
        is: 'ended',
        ending: this.random() < 0.7 ? { state: 3, reason: null, message: '' } : { state: 4, reason: 'EVICTED', message: '' },
      };
    else if (this.scope === 'cluster' && this.random() < 0.1) this.things = this.things.filter((one) => one !== thing);
  }

  /** One step of a worker: it finishes what it was about to do, claims, sweeps, or goes on with its run. */
  work(worker: string): void {
    if (!this.alive.has(worker)) return;
    // A heart that did not beat in time: the others may already count it as dead, and it does not know.
    if (this.random() < 0.7) this.alive.set(worker, this.now + 600);
    const belief = this.beliefs.get(worker);
    if (belief?.doing) {
      this.outside(worker, belief.row, belief.doing);
      belief.doing = undefined;
      return;
    }
    if (belief && this.random() < 0.5) belief.row = { ...this.row };
    if (this.random() < 0.2) {
      this.sweep(worker);
      return;
    }
    if (!belief) {
      if (this.row.phase === 'queued' && this.row.desired === 'running' && this.slot === null) {
        this.slot = this.row.id;
        this.set(this.row, 'claimed', { worker, fence: this.row.fence + 1, claimedAt: this.now });
        this.beliefs.set(worker, { row: { ...this.row } });
      }
      return;
    }
    if (this.fenced && belief.row.fence !== this.row.fence && this.random() < 0.3) {
      this.beliefs.delete(worker);
      return;
    }
    this.drive(worker, belief);
  }

  situation(worker: string): Parameters<typeof decide>[2] {
    const alive = new Set([...this.alive].filter(([, until]) => until >= this.now).map(([name]) => name));
    return { now: this.now, me: worker, alive, scope: this.scope, pendingMs: 2_000 };
  }

  seen(worker: string, attempt: number): Observed | undefined {
    const thing = this.things.find((one) => one.attempt === attempt && (this.scope === 'cluster' || one.owner === worker));
    return thing && { runId: '1', attempt, status: thing.status };
  }

  drive(worker: string, belief: { row: Row; doing?: 'create' | 'remove' | undefined }): void {
    const { row } = belief;
    const decision = decide(row, this.seen(worker, row.attempt), this.situation(worker));
    this.steps.push(`${worker} ${row.phase}/${row.fence} ${decision.do}`);
    switch (decision.do) {
      case 'create':
        if (row.phase === 'claimed') {
          if (!this.set(row, 'starting', {}, true)) {
            belief.row = { ...this.row };
            return;
          }
          row.phase = 'starting';
        }
        belief.doing = 'create';
        return;
      case 'mark-running':
        if (this.set(row, 'running', { startedAt: this.now })) row.phase = 'running';
        return;
      case 'stop': {
        const thing = this.things.find((one) => one.attempt === row.attempt && (this.scope === 'cluster' || one.owner === worker));
        if (thing && this.random() < 0.7) thing.status = { is: 'ended', ending: { state: 4, reason: 'SIGNAL', message: '' } };
        return;
      }
      case 'collect':
        if (this.set(row, 'collecting', { ending: decision.ending }, decision.ending.state !== 5)) row.phase = 'collecting';
        else belief.row = { ...this.row };
        return;
      case 'finish':
        if (this.set(row, 'terminal', {})) belief.doing = 'remove';
        else this.beliefs.delete(worker);
        return;
      case 'end':
        if (this.set(row, 'terminal', { ending: decision.ending })) belief.doing = 'remove';
        else this.beliefs.delete(worker);
        return;
      case 'requeue':
      case 'adopt':
        this.beliefs.delete(worker);
        return;
      case 'delete':
        this.outside(worker, row, 'remove');
        return;
      default:
        if (row.phase === 'terminal') this.beliefs.delete(worker);
    }
  }

  /** What is done outside, whether its answer comes or not. */
  outside(worker: string, row: Row, what: 'create' | 'remove'): void {
    const mine = (one: Thing): boolean => one.attempt === row.attempt && (this.scope === 'cluster' || one.owner === worker);
    if (what === 'remove') this.things = this.things.filter((one) => !mine(one));
    // Of the same name there is one.
    else if (!this.things.some(mine)) this.things.push({ attempt: row.attempt, owner: worker, status: { is: 'pending' } });
  }

  sweep(worker: string): void {
    const { row } = this;
    const objects = this.things.filter(({ owner }) => this.scope === 'cluster' || owner === worker);
    if (row.worker !== worker || !this.beliefs.has(worker)) {
      const decision = decide({ ...row }, this.seen(worker, row.attempt), this.situation(worker));
      const believed = { ...row };
      if (decision.do === 'end') this.set(believed, 'terminal', { ending: decision.ending });
      else if (decision.do === 'requeue') {
        if (this.set(believed, 'queued', { worker: null, attempt: row.attempt + 1, fence: row.fence + 1 }, true)) this.slot = null;
      } else if (decision.do !== 'nothing' && decision.do !== 'delete') {
        this.set(believed, row.phase, { worker, fence: row.fence + 1 });
        this.beliefs.set(worker, { row: { ...this.row } });
      }
    }
    for (const object of objects) {
      const at = { ...this.situation(worker), me: row.worker ?? worker };
      if (decide({ ...row }, { runId: '1', attempt: object.attempt, status: object.status }, at).do === 'delete')
        this.things = this.things.filter((one) => one !== object);
    }
  }

  /** No more accidents: workers live, programs end, sweeps sweep. */
  settle(): void {
    for (let i = 0; i < 4_000; i++) {
      this.now += 100;
      for (const worker of ['a', 'b']) this.alive.set(worker, this.now + 600);
      this.alive.delete('c');
      this.beliefs.delete('c');
      for (const thing of this.things)
        if (thing.status.is === 'pending') thing.status = { is: 'running' };
        else if (thing.status.is === 'running' && this.random() < 0.2)
          thing.status = { is: 'ended', ending: { state: 3, reason: null, message: '' } };
      const worker = this.random() < 0.5 ? 'a' : 'b';
      const belief = this.beliefs.get(worker);
      if (belief && !belief.doing) belief.row = { ...this.row };
      if (belief && this.row.worker !== worker && !belief.doing) this.beliefs.delete(worker);
      this.work(worker);
      this.sweep(worker);
      if (this.row.phase === 'terminal' && this.things.length === 0 && ![...this.beliefs.values()].some(({ doing }) => doing)) return;
    }
  }
}

const worlds = Number(process.env.HOLDFAST_WORLDS ?? 1_000);

it.each(['process', 'cluster'] as const)(
  '%s: whatever crashes where, a run ends once, at most one of an attempt lives, nothing is left, its slot is free',
  (scope) => {
    const ends = new Set<string>();
    for (let seed = 1; seed <= worlds; seed++) {
      const world = new World(seed, scope);
      for (let i = 0; i < 120; i++) world.step();
      world.settle();
      const what = `seed ${seed}: ${world.steps.slice(-30).join(', ')}`;
      expect(world.row.phase, what).toBe('terminal');
      expect(world.row.ends, what).toBe(1);
      expect(world.maxLive, what).toBeLessThanOrEqual(1);
      expect(world.things, what).toEqual([]);
      expect(world.slot, what).toBeNull();
      ends.add(world.row.ending?.reason ?? String(world.row.ending?.state));
    }
    // All ways to end were met.
    expect([...ends].sort()).toEqual(expect.arrayContaining(['3', '5', 'EVICTED', 'NODE_LOST', 'QUEUE_EXPIRED']));
  },
);

it('the same world without a fence ends runs twice: this test can fail', () => {
  let twice = 0;
  for (let seed = 1; seed <= 300; seed++) {
    const world = new World(seed, 'cluster', false);
    for (let i = 0; i < 120; i++) world.step();
    world.settle();
    if (world.row.ends !== 1) twice += 1;
  }
  expect(twice).toBeGreaterThan(10);
});
