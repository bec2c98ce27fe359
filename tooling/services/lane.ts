/**
 * The servers that one run of the suite uses. `usual`: SQLite, this machine's PostgreSQL, and MySQL 9.7, which most services have.
 * `mariadb`: this machine's MariaDB alone. `newer`: PostgreSQL 18, MariaDB 11.8 and RabbitMQ 4.
 */
export const lanes = ['usual', 'mariadb', 'newer'] as const;
export type Lane = (typeof lanes)[number];

/** The lane that this process runs in, from `HOLDFAST_LANE`. */
export const lane: Lane = laneOf(process.env.HOLDFAST_LANE || 'usual');

function laneOf(given: string): Lane {
  const found = lanes.find((name) => name === given);
  if (!found) throw new Error(`HOLDFAST_LANE is "${given}"; use one of ${lanes.join(', ')}.`);
  return found;
}
