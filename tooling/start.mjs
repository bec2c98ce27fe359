// `npm start`: installs what is missing, then runs the reference service.
import { join } from 'node:path';
import { ensureInstalled, root, runPinned } from './bootstrap.mjs';

ensureInstalled();
runPinned(join(root, 'examples', 'compute-dispatch', 'src', 'main.ts'), process.argv.slice(2));
