import { spawn } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './paths.ts';
import { canInstall, installPackages } from './services/debian.ts';
import { ensureHelm } from './services/helm.ts';
import { lane } from './services/lane.ts';
import { ensurePrograms, ensureValidator } from './services/programs.ts';
import { startServices, services as wantedServices } from './services/services.ts';
import { summary } from './test-summary.ts';

/** Where a lane's results go, for the summary and for `.ci/run`. */
const results = `.cache/tests-${lane}.json`;
/** Whether a file is named, and not only options, whose values may stand apart from them. */
const named = process.argv.slice(2).some((arg, i, all) => !arg.startsWith('-') && !/^-[^=]*$/.test(all[i - 1] ?? ''));
const skipped = new Set((process.env.HOLDFAST_SKIP ?? '').split(',').filter(Boolean));
const services = await startServices({ skip: skipped, log: (line) => console.log(line) });
const missingPrograms = [
  ...(await ensurePrograms(
    (name) => !skipped.has(name),
    (line) => console.log(line),
  )),
];
const validator = skipped.has('kubernetes-validate') ? undefined : await ensureValidator((line) => console.log(line));
if (validator === undefined && !skipped.has('kubernetes-validate')) missingPrograms.push('kubernetes-validate');
const helm = skipped.has('helm') ? undefined : await ensureHelm((line) => console.log(line));
if (helm === undefined && !skipped.has('helm')) missingPrograms.push('helm');
if (missingPrograms.length > 0 && process.env.CI === 'true') {
  console.error(`CI=true and not available: ${missingPrograms.join(', ')}. Name them in HOLDFAST_SKIP to go on without.`);
  await services.stop();
  process.exit(1);
}
const chromium = await findChromium();
if (chromium === undefined && process.env.CI === 'true' && !skipped.has('chromium')) {
  console.error('CI=true and no Chromium; name it in HOLDFAST_SKIP to go on without.');
  await services.stop();
  process.exit(1);
}
let code = 1;
let ended: string | undefined;
// Or a run that breaks off would be summed up by the one before.
rmSync(join(root, results), { force: true });
try {
  const missing = services.results.filter((result) => result.state === 'missing' && !skipped.has(result.name));
  if (process.env.CI === 'true' && missing.length > 0) {
    console.error(
      `CI=true and not available: ${missing.map((result) => `${result.name} (${result.detail})`).join('; ')}. Name them in HOLDFAST_SKIP to go on without.`,
    );
  } else {
    // An address for a server of another version must not stand in for one that is missing.
    const others = Object.fromEntries(wantedServices.map(({ variable }) => [variable, undefined]));
    code = await vitest({
      ...process.env,
      ...others,
      ...services.environment,
      // Processes that tests start load their TypeScript from there: 0.4 s of a core each, not 0.9 s.
      NODE_COMPILE_CACHE: join(root, '.cache', 'compile'),
      ...(chromium ? { HOLDFAST_CHROMIUM: chromium } : {}),
      ...(validator ? { HOLDFAST_KUBERNETES_VALIDATE: validator } : {}),
      ...(helm ? { HOLDFAST_HELM: helm } : {}),
    });
    console.log(summary(lane, join(root, results), services.results));
    if (ended !== undefined) console.error(ended);
  }
} finally {
  await services.stop();
}
process.exit(code);

/** The browser that the page's test drives; installed where Debian's packages can be. */
async function findChromium(): Promise<string | undefined> {
  const path = '/usr/bin/chromium';
  if (process.env.HOLDFAST_CHROMIUM) return process.env.HOLDFAST_CHROMIUM;
  if (!existsSync(path) && canInstall() && !skipped.has('chromium')) {
    try {
      await installPackages(['chromium'], (line) => console.log(line));
    } catch (error) {
      console.log((error as Error).message);
    }
  }
  if (existsSync(path)) return path;
  console.log('chromium  missing (the page is not tested; set HOLDFAST_CHROMIUM to a Chromium or Chrome)');
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
        `--outputFile.json=${results}`,
        // What is long by nature has a lane of its own; somebody who names a file wants it.
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
