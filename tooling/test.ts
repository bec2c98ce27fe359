import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { root } from './paths.ts';
import { startServices } from './services/services.ts';

const skipped = new Set((process.env.HOLDFAST_SKIP ?? '').split(',').filter(Boolean));
const services = await startServices({ skip: skipped, log: (line) => console.log(line) });
let code = 1;
try {
  const missing = services.results.filter((result) => result.state === 'missing' && !skipped.has(result.name));
  if (process.env.CI === 'true' && missing.length > 0) {
    console.error(
      `CI=true and not available: ${missing.map((result) => `${result.name} (${result.detail})`).join('; ')}. Name them in HOLDFAST_SKIP to go on without.`,
    );
  } else {
    code = await vitest({ ...process.env, ...services.environment });
  }
} finally {
  await services.stop();
}
process.exit(code);

function vitest(env: NodeJS.ProcessEnv): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn(
      process.execPath,
      [
        join(root, 'node_modules', 'vitest', 'vitest.mjs'),
        'run',
        '--reporter=default',
        '--reporter=json',
        '--outputFile.json=.cache/tests.json',
        ...process.argv.slice(2),
      ],
      { cwd: root, stdio: 'inherit', env },
    );
    const forward = (signal: NodeJS.Signals) => child.kill(signal);
    process.on('SIGINT', forward);
    process.on('SIGTERM', forward);
    child.on('exit', (exit) => resolve(exit ?? 1));
  });
}
