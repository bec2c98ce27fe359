/**
 * A lane is one run of the suite: a choice of test files and servers. `usual`: all files but `*.long.test.ts`, on SQLite, PostgreSQL 15 and
 * MySQL 9.7. `long`: the files `*.long.test.ts`, on the same servers. `mariadb`: the files that use a database, on MariaDB 10.11. `newer`: the
 * files that use a database or RabbitMQ, on PostgreSQL 18, MariaDB 11.8 and RabbitMQ 4.3.
 */
export const lanes = ['usual', 'long', 'mariadb', 'newer'] as const;
export type Lane = (typeof lanes)[number];

/** The lane that this process runs in, from `HOLDFAST_LANE`. */
export const lane: Lane = laneOf(process.env.HOLDFAST_LANE || 'usual');

/** A lane by its name. @throws an Error for a name that is not one of {@link lanes} */
export function laneOf(given: string): Lane {
  const found = lanes.find((name) => name === given);
  if (!found) throw new Error(`There is no lane "${given}"; use one of ${lanes.join(', ')} (HOLDFAST_LANE).`);
  return found;
}
