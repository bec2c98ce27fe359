import { monotonicMs } from '@holdfast/core';
import type { Redis } from 'ioredis';

export interface LaneShareOptions {
  readonly client: Redis;
  /** Prefix of the Redis keys of the group's members and owners. */
  readonly scope: string;
  readonly member: string;
  readonly lanes: readonly string[];
  readonly leaseMs: number;
  /** Called when this member becomes the owner of a lane. First handle the entries that its last owner left without a verdict. */
  readonly onTaken: (lane: string) => void;
  /** Called when another member may own a lane of this member's: its lease was not renewed in time. */
  readonly onLost: (lane: string) => void;
}

/** Takes or renews the lease of a lane, unless another member has it. Returns 1 if this member has it now. */
const acquire = `
local owner = redis.call('GET', KEYS[1])
if owner == false or owner == ARGV[1] then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1 end
return 0`;
const release = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`;

/**
 * Shares lanes out evenly among the living members of a group. A lane has one owner at a time, so that messages of a key are handled in
 * order over all members. A lease in Redis is not a fence: a member that was paused for longer than its lease may still run a handler;
 * an inbox makes that harmless.
 */
export class LaneShare {
  readonly #options: LaneShareOptions;
  /** This member's lanes, with the monotonic time at which the lease expires. */
  readonly #owned = new Map<string, number>();
  /** Lanes to be given up once none of their deliveries is in progress. */
  readonly #leaving = new Set<string>();

  constructor(options: LaneShareOptions) {
    this.#options = options;
  }

  /** Lanes that this member may read now. */
  get owned(): readonly string[] {
    const now = monotonicMs();
    return [...this.#owned].filter(([lane, until]) => until > now && !this.#leaving.has(lane)).map(([lane]) => lane);
  }

  /**
   * Sends this member's heartbeat, renews its lanes, takes free ones up to its share, and gives up those above it. A lane is given up
   * once `quiet` returns true for it, which means that none of its deliveries is in progress.
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
      else if ((await this.#acquire(lane)) === 1) this.#hold(lane, sentAt + leaseMs);
      else {
        this.#drop(lane);
        this.#options.onLost(lane);
      }
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
      if (this.#owned.has(lane) || (await this.#acquire(lane)) !== 1) continue;
      this.#hold(lane, sentAt + leaseMs);
    }
  }

  /** Gives up all lanes and leaves the group. */
  async leave(): Promise<void> {
    const { client, scope, member } = this.#options;
    for (const lane of [...this.#owned.keys()]) await this.#giveUp(lane);
    await client.zrem(`${scope}:members`, member);
  }

  async #acquire(lane: string): Promise<number> {
    const { client, scope, member, leaseMs } = this.#options;
    return Number(await client.eval(acquire, 1, `${scope}:owner:${lane}`, member, leaseMs));
  }

  /** After its lease expired, a lane may have had another owner: it counts as newly taken. */
  #hold(lane: string, until: number): void {
    const before = this.#owned.get(lane);
    const lapsed = before !== undefined && before < monotonicMs();
    if (lapsed) this.#options.onLost(lane);
    if (lapsed || before === undefined) this.#options.onTaken(lane);
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
