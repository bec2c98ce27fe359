/**
 * One run of the suite: which tests, on which servers. `usual`: SQLite, this machine's PostgreSQL, and MySQL 9.7, which most services have;
 * without the files named `*.long.test.ts`. `long`: those files, on the same servers. `mariadb`: every test that meets a database, on this
 * machine's MariaDB alone. `newer`: the same, on PostgreSQL 18, MariaDB 11.8 and RabbitMQ 4.
 */
export const lanes = ['usual', 'long', 'mariadb', 'newer'] as const;
export type Lane = (typeof lanes)[number];

/** The lane that this process runs in, from `HOLDFAST_LANE`. */
export const lane: Lane = laneOf(process.env.HOLDFAST_LANE || 'usual');

function laneOf(given: string): Lane {
  const found = lanes.find((name) => name === given);
  if (!found) throw new Error(`HOLDFAST_LANE is "${given}"; use one of ${lanes.join(', ')}.`);
  return found;
}
