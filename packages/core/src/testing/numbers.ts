const digit = Array.from({ length: 10 }, (_, n) => `SELECT ${n} AS n`).join(' UNION ALL ');

/**
 * Returns the SQL of a query for the numbers from 0 to below `count`, ascending, in the column `n`. With `INSERT … SELECT … FROM (…) numbers`
 * the server makes the rows of a large table itself: in a fraction of the time that it takes to send them.
 */
export function numbers(count: number): string {
  const digits = Array.from(String(count - 1), (_, i) => i);
  const n = digits.map((i) => `d${i}.n * ${10 ** i}`).join(' + ');
  return `SELECT ${n} AS n FROM ${digits.map((i) => `(${digit}) d${i}`).join(' CROSS JOIN ')} WHERE ${n} < ${count} ORDER BY 1`;
}
