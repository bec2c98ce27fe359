// `npm start`: installs what is missing, then runs the reference service.
import { join } from 'node:path';
import { ensureInstalled, root, runPinned } from './bootstrap.mjs';

ensureInstalled();
runPinned(join(root, 'tooling', 'start.ts'), process.argv.slice(2));
