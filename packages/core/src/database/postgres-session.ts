import type { SqlRunner } from './sql-runner.ts';

/**
 * The settings of a PostgreSQL session that our statements rely on: READ COMMITTED, and the text of values. A role or a database may set
 * others: with `DateStyle = 'SQL, DMY'` a key is read as `25/10/2026 08:59:59 CST`, which compares as another instant. The order of day and
 * month in `DateStyle`, and `TimeZone`, stay as they are: they decide what the texts of a caller's condition mean.
 *
 * Returns the statements that correct the session; none in most.
 */
export async function postgresCorrections(sql: SqlRunner): Promise<readonly string[]> {
  const [session] = await sql.rows<Record<'isolation' | 'dates' | 'intervals' | 'digits' | 'bytes', string>>(
    "SELECT current_setting('default_transaction_isolation') AS isolation, current_setting('DateStyle') AS dates, current_setting('IntervalStyle') AS intervals, current_setting('extra_float_digits') AS digits, current_setting('bytea_output') AS bytes",
  );
  return [
    ...(session?.isolation === 'read committed' ? [] : ["SET default_transaction_isolation = 'read committed'"]),
    ...(session?.dates.startsWith('ISO') ? [] : ["SET DateStyle = 'ISO'"]),
    ...(session?.intervals === 'postgres' ? [] : ["SET IntervalStyle = 'postgres'"]),
    // From 1 on, floating point is written with as many digits as distinguish it.
    ...(Number(session?.digits) >= 1 ? [] : ['SET extra_float_digits = 1']),
    ...(session?.bytes === 'hex' ? [] : ["SET bytea_output = 'hex'"]),
  ];
}
