// `node tooling/run.mjs FILE …`: installs what is missing, then runs FILE on the pinned Node.
import { resolve } from 'node:path';
import { ensureInstalled, root, runPinned } from './bootstrap.mjs';

ensureInstalled();
runPinned(resolve(root, process.argv[2]), process.argv.slice(3));
