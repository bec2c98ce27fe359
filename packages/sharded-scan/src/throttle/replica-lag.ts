import { type Duration, durationMs, InvalidArgumentError, monotonicMs } from '@holdfast/core';
import type { Knex } from 'knex';
import type { Throttle } from './throttle.ts';

const lookEveryMs = 1_000;

/**
 * Holds a scan while a replica is more than `max` behind, so that what it writes does not starve those who read there. Looks once a
 * second. A replica that replicates nothing counts as behind. On MySQL and MariaDB its user needs REPLICATION CLIENT (REPLICA MONITOR).
 * @throws InvalidArgumentError
 */
export function replicaLag(options: { readonly replica: Knex; readonly max: Duration }): Throttle {
  const { replica } = options;
  const maxMs = durationMs(options.max, 'max');
  const client = typeof replica === 'function' ? String((replica.client as { dialect?: string }).dialect) : '';
  const lagOf = /postgres/.test(client) ? postgresLagMs : /mysql/.test(client) ? mysqlLagMs : undefined;
  if (!lagOf) throw new InvalidArgumentError('replica is no knex of Postgres, MySQL or MariaDB; give the one whose lag counts.');
  let lookAt = 0;
  let behind: Promise<boolean> = Promise.resolve(false);
  return async () => {
    if (monotonicMs() >= lookAt) {
      lookAt = monotonicMs() + lookEveryMs;
      behind = lagOf(replica).then((ms) => ms > maxMs);
      // Asked anew by the next, not remembered.
      behind.catch(() => {
        lookAt = 0;
      });
    }
    return (await behind) ? lookEveryMs : 0;
  };
}

/** Zero when all that was received is replayed: without new transactions the age of the last one says nothing. */
async function postgresLagMs(knex: Knex): Promise<number> {
  const { rows } = await knex.raw<{ rows: { replica: boolean; connected: boolean; ms: string | null }[] }>(`
    SELECT pg_is_in_recovery() AS replica,
           EXISTS (SELECT 1 FROM pg_stat_wal_receiver) AS connected,
           CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
                ELSE EXTRACT(EPOCH FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000 END AS ms`);
  const [row] = rows;
  if (!row?.replica) throw noReplica();
  return row.connected && row.ms !== null ? Number(row.ms) : Number.POSITIVE_INFINITY;
}

async function mysqlLagMs(knex: Knex): Promise<number> {
  // MySQL 8.4 knows only the newer name, and MariaDB before 10.5 only the older.
  const answer = await knex
    .raw<[Record<string, unknown>[]]>('SHOW REPLICA STATUS')
    .catch(() => knex.raw<[Record<string, unknown>[]]>('SHOW SLAVE STATUS'));
  const status = answer?.[0]?.[0];
  if (!status) throw noReplica();
  const seconds = status.Seconds_Behind_Source ?? status.Seconds_Behind_Master;
  return seconds === null || seconds === undefined ? Number.POSITIVE_INFINITY : Number(seconds) * 1_000;
}

function noReplica(): InvalidArgumentError {
  return new InvalidArgumentError(
    'The database that replicaLag was given is no replica; give the knex of one that follows the scanned database.',
  );
}
