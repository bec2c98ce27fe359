/**
 * Which servers a run of the suite meets. `usual`: those of this machine's Debian, and MySQL, which is what most services have.
 * `mariadb`: MariaDB in MySQL's place. `newer`: PostgreSQL 18, MariaDB 11.8 and RabbitMQ 4.
 */
export const lanes = ['usual', 'mariadb', 'newer'] as const;
export type Lane = (typeof lanes)[number];

/** The lane that this process runs in, from `HOLDFAST_LANE`. */
export const lane: Lane = lanes.find((name) => name === process.env.HOLDFAST_LANE) ?? 'usual';
