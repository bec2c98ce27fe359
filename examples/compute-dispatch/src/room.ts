import type { Knex } from 'knex';
import { packages } from './packages.ts';

/** Fills the simulated room on the first start: a third of its machines are out of service. */
export async function seedRoom(knex: Knex, machines: number): Promise<void> {
  await knex.transaction(async (trx) => {
    if (await trx('dispatch_machine').first()) return;
    const names = Object.keys(packages);
    const rows = Array.from({ length: machines }, (_, i) => ({
      id: `m-${String(i + 1).padStart(5, '0')}`,
      room: 'room-1',
      ip: `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`,
      package_id: names[i % 4 === 3 ? 1 : 0] ?? 'standard',
      state: i % 3 === 2 ? 'DOWN' : 'FREE',
    }));
    for (let from = 0; from < rows.length; from += 150)
      await trx('dispatch_machine')
        .insert(rows.slice(from, from + 150))
        .onConflict('id')
        .ignore();
  });
}

/** One second in the room: a machine that was out of service comes back, so that applying again can succeed. */
export async function stirRoom(knex: Knex): Promise<void> {
  const down = await knex('dispatch_machine').where({ state: 'DOWN' }).orderBy('id').first();
  if (down) await knex('dispatch_machine').where({ id: down.id, state: 'DOWN' }).update({ state: 'FREE' });
}
