import { spawn } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './paths.ts';
import { canInstall, installPackages } from './services/debian.ts';
import { ensureHelm } from './services/helm.ts';
import { lane } from './services/lane.ts';
import { ensurePrograms, ensureValidator } from './services/programs.ts';
import { startServices, services as wantedServices } from './services/services.ts';
import { attempt } from './services/set-up-step.ts';
import { resultsFile } from './test-results.ts';
import { summary } from './test-summary.ts';

/** True if the arguments name a file. The value of an option may be an argument of its own. */
const named = process.argv.slice(2).some((arg, i, all) => !arg.startsWith('-') && !/^-[^=]*$/.test(all[i - 1] ?? ''));
const skipped = new Set((process.env.HOLDFAST_SKIP ?? '').split(',').filter(Boolean));
const log = (line: string): void => console.log(line);
const services = await startServices({ skip: skipped, log });
const programs = await ensurePrograms((name) => !skipped.has(name), log);
const validator = skipped.has('kubernetes-validate') ? undefined : await ensureValidator(log);
const helm = skipped.has('helm') ? undefined : await ensureHelm(log);
const chromium = skipped.has('chromium') ? process.env.HOLDFAST_CHROMIUM : await findChromium();
const missing = [
  ...services.results.filter(({ state }) => state === 'missing').map(({ name, detail }) => `${name} (${detail})`),
  ...programs,
  ...Object.entries({ 'kubernetes-validate': validator, helm, chromium }).flatMap(([name, path]) =>
    path === undefined && !skipped.has(name) ? [name] : [],
  ),
];
let code = 1;
let ended: string | undefined;
// Otherwise the summary of an interrupted run would show the results of the run before.
rmSync(resultsFile(lane), { force: true });
try {
  if (process.env.CI === 'true' && missing.length > 0) {
    console.error(`CI=true and not available: ${missing.join(', ')}. Make them available, or name them in HOLDFAST_SKIP.`);
  } else {
    // The address of a server of another version must not replace that of a missing server.
    const others = Object.fromEntries(wantedServices.map(({ variable }) => [variable, undefined]));
    code = await vitest({
      ...process.env,
      ...others,
      ...services.environment,
      // A compile cache for the processes that tests start: 0.4 s of a core each, instead of 0.9 s.
      NODE_COMPILE_CACHE: join(root, '.cache', 'compile'),
      ...(chromium ? { HOLDFAST_CHROMIUM: chromium } : {}),
      ...(validator ? { HOLDFAST_KUBERNETES_VALIDATE: validator } : {}),
      ...(helm ? { HOLDFAST_HELM: helm } : {}),
    });
    console.log(summary(lane, services.results));
    if (ended !== undefined) console.error(ended);
  }
} finally {
  await services.stop();
}
process.exit(code);

/** Returns the browser for the tests of the pages. Installs it where Debian packages can be installed. */
async function findChromium(): Promise<string | undefined> {
  const path = '/usr/bin/chromium';
  if (process.env.HOLDFAST_CHROMIUM) return process.env.HOLDFAST_CHROMIUM;
  if (!existsSync(path) && canInstall()) await attempt(log, () => installPackages(['chromium'], log));
  if (existsSync(path)) return path;
  log('chromium  missing (the page is not tested; set HOLDFAST_CHROMIUM to a Chromium or Chrome)');
  return undefined;
}

function vitest(env: NodeJS.ProcessEnv): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn(
      process.execPath,
      [
        join(root, 'node_modules', 'vitest', 'vitest.mjs'),
        'run',
        '--reporter=default',
        '--reporter=json',
        `--outputFile.json=${resultsFile(lane)}`,
        // The lane "long" runs the long files; a person who names a file gets it in any lane.
        ...(lane === 'usual' && !named ? ['--exclude=**/*.long.test.ts'] : []),
        ...process.argv.slice(2),
      ],
      { cwd: root, stdio: 'inherit', env },
    );
    const forward = (signal: NodeJS.Signals) => child.kill(signal);
    services.watch((line) => {
      ended = line;
      console.error(line);
      child.kill('SIGINT');
    });
    process.on('SIGINT', forward);
    process.on('SIGTERM', forward);
    child.on('exit', (exit) => resolve(ended === undefined ? (exit ?? 1) : 1));
  });
}
