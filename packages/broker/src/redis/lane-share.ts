import { monotonicMs } from '@holdfast/core';
import type { Redis } from 'ioredis';

export interface LaneShareOptions {
  readonly client: Redis;
  /** Names the group's members and owners in Redis. */
  readonly scope: string;
  readonly member: string;
  readonly lanes: readonly string[];
  readonly leaseMs: number;
  /** A lane is ours from now on; what its last reader left is to be looked at before anything else of it. */
  readonly onTaken: (lane: string) => void;
}

/** Sets the owner if there is none or it is this member; returns 1 if it is this member now. */
const acquire = `
local owner = redis.call('GET', KEYS[1])
if owner == false or owner == ARGV[1] then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1 end
return 0`;
const release = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`;

/**
 * Splits lanes fairly among the living members of a group: a lane has one reader at a time, so that messages of a key are
 * handled in order over all members. Leases in Redis are no fence: a member that was stopped past its lease may still run
 * a handler; the inbox makes that harmless.
 */
export class LaneShare {
  readonly #options: LaneShareOptions;
  /** Lanes of ours, with the monotonic time until which they are. */
  readonly #owned = new Map<string, number>();
  readonly #leaving = new Set<string>();

  constructor(options: LaneShareOptions) {
    this.#options = options;
  }

  /** Lanes that may be read now. */
  get owned(): readonly string[] {
    const now = monotonicMs();
    return [...this.#owned].filter(([lane, until]) => until > now && !this.#leaving.has(lane)).map(([lane]) => lane);
  }

  /**
   * Says that this member lives, renews what it owns, takes what is free up to its share, and gives up what is above it, once
   * `quiet` says that nothing of the lane is under way.
   */
  async refresh(quiet: (lane: string) => boolean): Promise<void> {
    const { client, scope, member, lanes, leaseMs } = this.#options;
    const sentAt = monotonicMs();
    const [seconds, micros] = await client.time();
    const now = Number(seconds) * 1000 + Math.trunc(Number(micros) / 1000);
    await client.zadd(`${scope}:members`, now + leaseMs, member);
    await client.zremrangebyscore(`${scope}:members`, '-inf', now);
    const members = Math.max(1, await client.zcard(`${scope}:members`));
    const share = Math.ceil(lanes.length / members);
    for (const lane of [...this.#owned.keys()]) {
      if (this.#leaving.has(lane) && quiet(lane)) await this.#giveUp(lane);
      else if ((await this.#try(lane)) === 1) this.#hold(lane, sentAt + leaseMs);
      else this.#drop(lane);
    }
    let above = this.#owned.size - this.#leaving.size - share;
    for (const lane of this.#owned.keys()) {
      if (above <= 0) break;
      if (this.#leaving.has(lane)) continue;
      this.#leaving.add(lane);
      above -= 1;
    }
    for (const lane of lanes) {
      if (this.#owned.size >= share) break;
      if (this.#owned.has(lane) || (await this.#try(lane)) !== 1) continue;
      this.#hold(lane, sentAt + leaseMs);
    }
  }

  async leave(): Promise<void> {
    const { client, scope, member } = this.#options;
    for (const lane of [...this.#owned.keys()]) await this.#giveUp(lane);
    await client.zrem(`${scope}:members`, member);
  }

  async #try(lane: string): Promise<number> {
    const { client, scope, member, leaseMs } = this.#options;
    return Number(await client.eval(acquire, 1, `${scope}:owner:${lane}`, member, leaseMs));
  }

  /** A lane whose lease had run out may have been another's meanwhile: it counts as taken anew. */
  #hold(lane: string, until: number): void {
    if ((this.#owned.get(lane) ?? 0) < monotonicMs()) this.#options.onTaken(lane);
    this.#owned.set(lane, until);
  }

  async #giveUp(lane: string): Promise<void> {
    this.#drop(lane);
    await this.#options.client.eval(release, 1, `${this.#options.scope}:owner:${lane}`, this.#options.member);
  }

  #drop(lane: string): void {
    this.#owned.delete(lane);
    this.#leaving.delete(lane);
  }
}
