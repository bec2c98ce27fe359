import { type Duration, durationMs, InvalidArgumentError, monotonicMs } from '@holdfast/core';
import type { Knex } from 'knex';
import type { Throttle } from './throttle.ts';

const pollMs = 1_000;

/**
 * A throttle that pauses a scan while a replica lags by more than `max`, so that the scan's writes do not make reads from the replica
 * stale. The lag is polled at most once a second. A replica whose replication has stopped counts as lagging. On MySQL the replica's user
 * needs the right REPLICATION CLIENT, on MariaDB REPLICA MONITOR.
 * @throws InvalidArgumentError if `replica` is not a knex of Postgres, MySQL or MariaDB; when called, if that database is not a replica
 */
export function replicaLag(options: { readonly replica: Knex; readonly max: Duration }): Throttle {
  const { replica } = options;
  const maxMs = durationMs(options.max, 'max');
  const client = typeof replica === 'function' ? String((replica.client as { dialect?: string }).dialect) : '';
  const lagOf = /postgres/.test(client) ? postgresLagMs : /mysql/.test(client) ? mysqlLagMs : undefined;
  if (!lagOf)
    throw new InvalidArgumentError('replica is not a knex instance of Postgres, MySQL or MariaDB; give the knex of the replica to watch.');
  let pollAt = 0;
  let behind: Promise<boolean> = Promise.resolve(false);
  return async () => {
    if (monotonicMs() >= pollAt) {
      pollAt = monotonicMs() + pollMs;
      behind = lagOf(replica).then((ms) => ms > maxMs);
      // A failed poll is not kept: the next call polls again.
      behind.catch(() => {
        pollAt = 0;
      });
    }
    return (await behind) ? pollMs : 0;
  };
}

/** Zero when everything received has been replayed: without new transactions, the age of the last one is not a lag. */
async function postgresLagMs(knex: Knex): Promise<number> {
  const { rows } = await knex.raw<{ rows: { replica: boolean; connected: boolean; ms: string | null }[] }>(`
    SELECT pg_is_in_recovery() AS replica,
           EXISTS (SELECT 1 FROM pg_stat_wal_receiver) AS connected,
           CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
                ELSE EXTRACT(EPOCH FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000 END AS ms`);
  const [row] = rows;
  if (!row?.replica) throw notAReplica();
  return row.connected && row.ms !== null ? Number(row.ms) : Number.POSITIVE_INFINITY;
}

async function mysqlLagMs(knex: Knex): Promise<number> {
  // MySQL 8.4 knows only the newer name, and MariaDB before 10.5 only the older.
  const answer = await knex
    .raw<[Record<string, unknown>[]]>('SHOW REPLICA STATUS')
    .catch(() => knex.raw<[Record<string, unknown>[]]>('SHOW SLAVE STATUS'));
  const status = answer?.[0]?.[0];
  if (!status) throw notAReplica();
  const seconds = status.Seconds_Behind_Source ?? status.Seconds_Behind_Master;
  return seconds === null || seconds === undefined ? Number.POSITIVE_INFINITY : Number(seconds) * 1_000;
}

function notAReplica(): InvalidArgumentError {
  return new InvalidArgumentError('The database given to replicaLag is not a replica; give the knex of a replica of the scanned database.');
}
