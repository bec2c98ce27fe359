import type { Database } from '../database/database.ts';
import type { Logger } from '../observe/logger.ts';
import { checkMigrated } from './migrate.ts';
import type { Schema } from './schema.ts';

/**
 * Checks before a start that the tables exist and are new enough. Warns about server settings that may lose committed work, and about tables
 * that a newer version has migrated.
 * @throws MigrationRequiredError, UnsupportedDatabaseError, DatabaseUnavailableError
 */
export async function checkTables(database: Database, schemas: readonly Schema[], logger: Logger): Promise<void> {
  const { warnings } = await database.describe();
  for (const warning of warnings) logger.warn({}, warning);
  const newer = await checkMigrated(database, schemas);
  if (newer.length > 0)
    logger.warn({ newer }, 'a newer version has migrated the tables; this version continues, since migrations only add');
}
