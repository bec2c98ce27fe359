// `npm test`: installs what is missing, starts the servers that are not running, runs the suite, stops what it started.
import { join } from 'node:path';
import { ensureInstalled, root, runPinned } from './bootstrap.mjs';

ensureInstalled();
runPinned(join(root, 'tooling', 'test.ts'), process.argv.slice(2));
