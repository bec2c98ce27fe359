import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** The folder for data, logs and pids of the servers that tests use. */
export const servicesRoot = join(root, '.services');
