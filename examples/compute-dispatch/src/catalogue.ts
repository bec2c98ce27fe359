import type { Knex } from 'knex';
import { z } from 'zod';
import { found, notFound } from './errors.ts';

export const packageView = z.object({
  id: z.string(),
  cpu: z.number(),
  memoryGiB: z.number(),
  gpu: z.string().nullable(),
  priceVersion: z.number(),
  centsPerHour: z.number(),
  /** Parameters with which machines of the package stream their screen. */
  parameters: z.record(z.string(), z.string()),
});
export type PackageView = z.infer<typeof packageView>;

export const priceView = z.object({ packageId: z.string(), version: z.number(), centsPerHour: z.number(), from: z.string() });

/** The packages of a new installation. */
const firstPackages = [
  { id: 'standard', cpu: 8, memory_gib: 16, gpu: null, cents: 120 },
  { id: 'graphics', cpu: 16, memory_gib: 64, gpu: 'RTX 4080', cents: 480 },
] as const;
const streaming = { codec: 'h264', maxFps: '60', resolution: '1920x1080' };

/** Packages, prices and parameters. They are few, so all are read together, at most once a second. */
export class Catalogue {
  readonly #knex: Knex;
  #packages: { readonly untilMs: number; readonly value: Promise<ReadonlyMap<string, PackageView>> } | undefined;

  constructor(knex: Knex) {
    this.#knex = knex;
  }

  async seed(nowMs: number): Promise<void> {
    for (const { cents, ...row } of firstPackages) {
      await this.#knex('dispatch_package').insert(row).onConflict('id').ignore();
      await this.#knex('dispatch_price')
        .insert({ package_id: row.id, version: 1, cents_per_hour: cents, from_ms: nowMs })
        .onConflict(['package_id', 'version'])
        .ignore();
      for (const [name, value] of Object.entries(streaming))
        await this.#knex('dispatch_parameter').insert({ package_id: row.id, name, value }).onConflict(['package_id', 'name']).ignore();
    }
  }

  /** The packages by id, up to a second old. Prices change by version, so an order that just misses a new price has the one before. */
  packages(): Promise<ReadonlyMap<string, PackageView>> {
    const nowMs = performance.now();
    if (this.#packages && this.#packages.untilMs > nowMs) return this.#packages.value;
    const value = this.#read();
    this.#packages = { untilMs: nowMs + 1_000, value };
    value.catch(() => {
      this.#packages = undefined;
    });
    return value;
  }

  async prices(): Promise<z.infer<typeof priceView>[]> {
    const rows = await this.#knex('dispatch_price').orderBy(['package_id', 'version']).limit(1_000);
    return rows.map((row) => ({
      packageId: String(row.package_id),
      version: Number(row.version),
      centsPerHour: Number(row.cents_per_hour),
      from: new Date(Number(row.from_ms)).toISOString(),
    }));
  }

  /** Sets a price for orders from now on. Earlier orders keep theirs. @throws DispatchError */
  async setPrice(packageId: string, centsPerHour: number, nowMs: number): Promise<z.infer<typeof priceView>> {
    if (!(await this.packages()).has(packageId)) throw notFound(`package ${JSON.stringify(packageId)}`);
    for (;;) {
      const last = await this.#knex('dispatch_price').where({ package_id: packageId }).max({ n: 'version' }).first();
      const version = Number(last?.n ?? 0) + 1;
      const row = { package_id: packageId, version, cents_per_hour: centsPerHour, from_ms: nowMs };
      const inserted = await this.#knex('dispatch_price').insert(row).onConflict(['package_id', 'version']).ignore();
      const kept = await this.#knex('dispatch_price').where({ package_id: packageId, version }).first();
      // Another price may have been set at the same time; this one then gets the next version.
      if (inserted === undefined || Number(kept?.cents_per_hour) !== centsPerHour) continue;
      this.#packages = undefined;
      return { packageId, version, centsPerHour, from: new Date(nowMs).toISOString() };
    }
  }

  /** Sets how machines of a package stream their screen, from the next lease on. `null` removes a parameter. @throws DispatchError */
  async setParameters(packageId: string, changes: Readonly<Record<string, string | null>>): Promise<PackageView> {
    found((await this.packages()).get(packageId), `package ${JSON.stringify(packageId)}`);
    for (const [name, value] of Object.entries(changes)) {
      const row = { package_id: packageId, name };
      if (value === null) await this.#knex('dispatch_parameter').where(row).delete();
      else
        await this.#knex('dispatch_parameter')
          .insert({ ...row, value })
          .onConflict(['package_id', 'name'])
          .merge(['value']);
    }
    this.#packages = undefined;
    return found((await this.packages()).get(packageId), `package ${packageId}`);
  }

  async #read(): Promise<ReadonlyMap<string, PackageView>> {
    const [rows, prices, parameters] = [
      await this.#knex('dispatch_package').orderBy('id'),
      await this.#knex('dispatch_price').orderBy(['package_id', 'version']),
      await this.#knex('dispatch_parameter'),
    ];
    return new Map(
      rows.map((row) => {
        const price = prices.filter(({ package_id }) => package_id === row.id).at(-1);
        return [
          String(row.id),
          {
            id: String(row.id),
            cpu: Number(row.cpu),
            memoryGiB: Number(row.memory_gib),
            gpu: row.gpu === null ? null : String(row.gpu),
            priceVersion: Number(price?.version ?? 0),
            centsPerHour: Number(price?.cents_per_hour ?? 0),
            parameters: Object.fromEntries(
              parameters.filter(({ package_id }) => package_id === row.id).map(({ name, value }) => [String(name), String(value)]),
            ),
          },
        ];
      }),
    );
  }
}
