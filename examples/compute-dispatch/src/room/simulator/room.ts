import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import type { PowerEvent, PowerKind } from '../../power/event.ts';
import type { GrantRequest, GrantResult, LeaseRef, ListedMachine, PowerResult, ReleaseResult, RoomPage } from '../adapter.ts';
import { faultless, type Misbehaviour } from './misbehaviour.ts';

interface Machine {
  readonly id: string;
  readonly ip: string;
  readonly packageId: string;
  /** The machine is out of service until this time. */
  downUntilMs: number;
  /** The highest epoch that the room has seen. */
  epoch: number;
  sequence: number;
  lease: (LeaseRef & { readonly grantedAtMs: number }) | undefined;
  power: { state: 'ON' | 'OFF'; sinceMs: number; sequence: number } | undefined;
  /** The power state to which it is being switched. */
  switching: { readonly to: 'ON' | 'OFF'; readonly timer: NodeJS.Timeout } | undefined;
}

/** The times in which a lease's machine really ran. */
export interface Truth {
  readonly token: string;
  readonly machineId: string;
  readonly epoch: number;
  readonly intervals: { readonly fromMs: number; toMs: number | null }[];
}

export interface RoomOptions {
  readonly id: string;
  readonly machines: number;
  /** The packages: a machine has the one at its number modulo the length. */
  readonly packages: readonly string[];
  /** A random number from 0 to 1, by a seed. */
  readonly random: () => number;
  readonly now: () => number;
  /** Gets each event as it happens, and may lose, repeat or delay it. */
  readonly tell: (event: PowerEvent) => void;
  /** The file with the journal, from which a restarted room continues. */
  readonly journal?: string | undefined;
}

/** An entry of the journal: the state of a machine after a change, and the truth of its lease. */
interface Entry {
  readonly machine: Pick<Machine, 'id' | 'epoch' | 'sequence' | 'downUntilMs'> & {
    readonly lease: Machine['lease'] | null;
    readonly power: Machine['power'] | null;
  };
  readonly truth?: Truth | undefined;
}

/** A room of machines, and the truth about them. It grants, switches, releases, lists and breaks as real ones do. */
export class Room {
  misbehaviour: Misbehaviour = faultless;
  readonly #options: RoomOptions;
  readonly #machines = new Map<string, Machine>();
  readonly #order: readonly string[];
  readonly #truth = new Map<string, Truth>();
  readonly #crashes: NodeJS.Timeout;
  #journal: string[] = [];

  constructor(options: RoomOptions) {
    this.#options = options;
    for (let i = 0; i < options.machines; i++) {
      const id = `m-${String(i + 1).padStart(6, '0')}`;
      this.#machines.set(id, {
        id,
        ip: `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`,
        packageId: options.packages[i % options.packages.length] ?? 'standard',
        downUntilMs: 0,
        epoch: 0,
        sequence: 0,
        lease: undefined,
        power: undefined,
        switching: undefined,
      });
    }
    this.#order = [...this.#machines.keys()];
    if (options.journal !== undefined && existsSync(options.journal)) this.#replay(readFileSync(options.journal, 'utf8'));
    this.#crashes = setInterval(() => this.#crash(), 1_000);
  }

  close(): void {
    clearInterval(this.#crashes);
    for (const { switching } of this.#machines.values()) clearTimeout(switching?.timer);
    this.flush();
  }

  /** Returns `true` in the given percentage of calls. */
  chance(percent: number): boolean {
    return percent > 0 && this.#options.random() * 100 < percent;
  }

  grant(requests: readonly GrantRequest[]): GrantResult[] {
    return requests.map(({ token, machineId, epoch }): GrantResult => {
      const machine = this.#machines.get(machineId);
      if (!machine) return { outcome: 'refused', reason: 'down' };
      if (machine.lease?.token === token) return { outcome: 'granted', grantedAtMs: machine.lease.grantedAtMs };
      if (epoch <= machine.epoch) return { outcome: 'refused', reason: 'stale' };
      const now = this.#options.now();
      if (machine.downUntilMs > now) return { outcome: 'refused', reason: 'down' };
      if (this.chance(this.misbehaviour.refusePercent)) {
        machine.downUntilMs = now + 3_000;
        return { outcome: 'refused', reason: 'down' };
      }
      // A higher epoch ends the lease before it.
      if (machine.lease) this.#end(machine);
      machine.epoch = epoch;
      machine.power = undefined;
      machine.lease = { token, machineId, epoch, grantedAtMs: now };
      this.#truth.set(token, { token, machineId, epoch, intervals: [] });
      this.#note(machine);
      return { outcome: 'granted', grantedAtMs: now };
    });
  }

  power(commands: readonly (LeaseRef & { readonly to: 'ON' | 'OFF' })[]): PowerResult[] {
    return commands.map(({ token, machineId, epoch, to }): PowerResult => {
      const machine = this.#machines.get(machineId);
      if (!machine?.lease || machine.lease.token !== token || machine.lease.epoch !== epoch) return { outcome: 'stale' };
      if (machine.switching?.to === to || machine.power?.state === to) return { outcome: 'accepted' };
      clearTimeout(machine.switching?.timer);
      const takes = this.misbehaviour.switchMs * (0.5 + this.#options.random());
      const timer = setTimeout(() => this.#switched(machine, token, to), takes);
      machine.switching = { to, timer };
      return { outcome: 'accepted' };
    });
  }

  release(leases: readonly LeaseRef[]): ReleaseResult[] {
    return leases.map(({ token, machineId, epoch }): ReleaseResult => {
      const machine = this.#machines.get(machineId);
      const interval = this.#truth.get(token)?.intervals.at(-1);
      if (machine?.lease?.token === token) {
        const power = this.#end(machine) ?? null;
        // Read after that: a lease does not end before its machine is off.
        return { outcome: 'released', releasedAtMs: this.#options.now(), power };
      }
      // Not granted, or released before. It cannot be granted from here on.
      if (machine && machine.epoch < epoch) {
        machine.epoch = epoch;
        this.#note(machine);
      }
      const off = interval?.toMs ?? null;
      return {
        outcome: 'released',
        releasedAtMs: this.#options.now(),
        power: off === null ? null : { state: 'OFF', sinceMs: off, sequence: machine?.sequence ?? 0 },
      };
    });
  }

  list(after: string | undefined, limit: number): RoomPage {
    const now = this.#options.now();
    const from = after === undefined ? 0 : this.#order.findIndex((id) => id > after);
    if (from < 0) return { atMs: now, machines: [], next: null };
    const ids = this.#order.slice(from, from + limit);
    const machines = ids.map((id): ListedMachine => {
      const { ip, packageId, downUntilMs, lease, power } = this.#machines.get(id) as Machine;
      return {
        machineId: id,
        roomId: this.#options.id,
        ip,
        packageId,
        inService: downUntilMs <= now,
        lease: lease ? { token: lease.token, machineId: id, epoch: lease.epoch, power: power ? { ...power } : null } : null,
      };
    });
    return { atMs: now, machines, next: from + limit < this.#order.length ? (ids.at(-1) ?? null) : null };
  }

  /** The times in which machines really ran, by lease. */
  truth(): readonly Truth[] {
    return [...this.#truth.values()];
  }

  /** Cuts the power of a machine. */
  cut(machineId: string, tell: boolean): boolean {
    const machine = this.#machines.get(machineId);
    if (machine?.power?.state !== 'ON') return false;
    this.#off(machine, tell);
    this.#note(machine);
    return true;
  }

  /** Writes the changes since the last call to the journal. Called before an answer is sent. */
  flush(): void {
    if (this.#options.journal !== undefined && this.#journal.length > 0) appendFileSync(this.#options.journal, this.#journal.join(''));
    this.#journal = [];
  }

  #switched(machine: Machine, token: string, to: 'ON' | 'OFF'): void {
    machine.switching = undefined;
    if (machine.lease?.token !== token) return;
    const { failOnPercent, failOffPercent } = this.misbehaviour;
    if (to === 'ON') {
      if (this.chance(failOnPercent)) this.#tell(machine, 'ON_FAILED');
      else if (machine.power?.state !== 'ON') {
        const sinceMs = this.#options.now();
        machine.power = { state: 'ON', sinceMs, sequence: machine.sequence + 1 };
        this.#truth.get(token)?.intervals.push({ fromMs: sinceMs, toMs: null });
        this.#tell(machine, 'ON', sinceMs);
      }
    } else if (this.chance(failOffPercent)) this.#tell(machine, 'OFF_FAILED');
    else this.#off(machine, true);
    this.#note(machine);
    this.flush();
  }

  #off(machine: Machine, tell: boolean): void {
    if (machine.power?.state !== 'ON' || !machine.lease) return;
    const sinceMs = this.#options.now();
    machine.power = { state: 'OFF', sinceMs, sequence: machine.sequence + 1 };
    const interval = this.#truth.get(machine.lease.token)?.intervals.at(-1);
    if (interval) interval.toMs = sinceMs;
    if (tell) this.#tell(machine, 'OFF', sinceMs);
    else machine.sequence += 1;
  }

  #end(machine: Machine): Machine['power'] {
    const token = machine.lease?.token;
    clearTimeout(machine.switching?.timer);
    machine.switching = undefined;
    this.#off(machine, true);
    const { power } = machine;
    machine.lease = undefined;
    machine.power = undefined;
    this.#note(machine, token);
    return power;
  }

  #tell(machine: Machine, kind: PowerKind, occurredAtMs: number = this.#options.now()): void {
    machine.sequence += 1;
    const { token, epoch } = machine.lease as LeaseRef;
    const eventId = `${this.#options.id}-${machine.id}-${epoch}-${machine.sequence}`;
    this.#options.tell({
      eventId,
      roomId: this.#options.id,
      machineId: machine.id,
      token,
      epoch,
      kind,
      occurredAtMs,
      sequence: machine.sequence,
    });
  }

  #crash(): void {
    const percent = this.misbehaviour.crashPercentPerMinute / 60;
    if (percent === 0) return;
    for (const machine of this.#machines.values())
      if (machine.power?.state === 'ON' && this.chance(percent)) {
        this.#off(machine, this.#options.random() < 0.5);
        this.#note(machine);
      }
    this.flush();
  }

  #note({ id, epoch, sequence, downUntilMs, lease, power }: Machine, token: string | undefined = lease?.token): void {
    if (this.#options.journal === undefined) return;
    const truth = token === undefined ? undefined : this.#truth.get(token);
    const entry: Entry = { machine: { id, epoch, sequence, downUntilMs, lease: lease ?? null, power: power ?? null }, truth };
    this.#journal.push(`${JSON.stringify(entry)}\n`);
  }

  #replay(journal: string): void {
    for (const line of journal.split('\n')) {
      if (line === '') continue;
      let entry: Entry;
      try {
        entry = JSON.parse(line) as Entry;
      } catch {
        // The last line may be cut off by the end of the process.
        continue;
      }
      const machine = this.#machines.get(entry.machine.id);
      if (!machine) continue;
      Object.assign(machine, entry.machine, { lease: entry.machine.lease ?? undefined, power: entry.machine.power ?? undefined });
      if (entry.truth) this.#truth.set(entry.truth.token, entry.truth);
    }
  }
}
