// `npm run smoke`: packs every package as for publishing, and uses it as a user without this repository does.

import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { buildPackages } from '../build.ts';
import { root } from '../paths.ts';
import { followPage } from './follow-page.ts';
import { type Packed, pack } from './pack.ts';
import { type Registry, startRegistry } from './registry.ts';
import { uses } from './use.ts';

/** The oldest supported Node, the one used for development, and the newest. npm's package `node` contains them. */
const nodes = ['22', '24', '26'];
/** The drivers, each with the subpath that adapts it. A package must not install a driver, and a subpath must need no other driver. */
const adapted: readonly (readonly [subpath: string, ...drivers: readonly string[]])[] = [
  ['@holdfast/broker/kafka', 'kafkajs'],
  ['@holdfast/broker/platformatic-kafka', '@platformatic/kafka'],
  ['@holdfast/broker/rabbitmq', 'amqplib'],
  ['@holdfast/broker/redis', 'ioredis'],
  ['@holdfast/code-runner/rabbitmq', 'amqplib'],
  ['@holdfast/code-runner/kubernetes', '@kubernetes/client-node'],
  ['@holdfast/code-runner/s3', '@aws-sdk/client-s3', '@aws-sdk/s3-request-presigner'],
];
const drivers = ['pg', 'mysql2', ...adapted.flatMap(([, ...needed]) => needed)];

await buildPackages();
const folder = mkdtempSync(join(tmpdir(), 'holdfast-smoke-'));
let registry: Registry | undefined;
try {
  const packed = pack(folder);
  registry = await startRegistry(packed);
  // npm uses a registry in this process, so waiting for npm must not block the event loop.
  const { npmrc } = registry;
  await sizes(packed, npmrc);
  await subpaths(npmrc);
  await onEveryNode(packed, npmrc);
  await quickStarts(npmrc);
  console.log(`smoke: ok (${packed.length} packages packed, installed and used on Node ${nodes.join(', ')}; every quick start followed)`);
} finally {
  registry?.close();
  rmSync(folder, { recursive: true, force: true });
}

/** Installs each package alone, and reports its size and the number of its dependencies. No driver may be among them. */
async function sizes(packed: readonly Packed[], npmrc: string): Promise<void> {
  console.log('\npackage                    packed  unpacked  files  packages installed  of others');
  for (const { name, folder: short, packedBytes, unpackedBytes, files } of packed) {
    const place = freshFolder(`size-${short}`, npmrc);
    await npm(['install', name], place);
    const { packages } = JSON.parse(readFileSync(join(place, 'node_modules', '.package-lock.json'), 'utf8')) as {
      packages: Record<string, unknown>;
    };
    const installed = Object.keys(packages).map((path) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length));
    const pulled = installed.filter((one) => drivers.includes(one));
    if (pulled.length > 0) throw new Error(`${name} installs ${pulled.join(', ')}, which must be optional.`);
    const others = installed.filter((one) => !one.startsWith('@holdfast/'));
    const bytes = Number(execFileSync('du', ['-sk', join(place, 'node_modules')], { encoding: 'utf8' }).split('\t')[0]) * 1024;
    console.log(
      `${name.padEnd(26)} ${size(packedBytes)}  ${size(unpackedBytes)}  ${String(files.length).padStart(5)}  ${`${String(installed.length).padStart(3)} (${size(bytes).trim()})`.padStart(18)}  ${String(others.length).padStart(9)}`,
    );
  }
}

/** Checks that each subpath can be imported with only its own driver installed. */
async function subpaths(npmrc: string): Promise<void> {
  for (const [subpath, ...needed] of adapted) {
    const place = freshFolder(`subpath-${subpath.replaceAll('/', '-')}`, npmrc);
    await npm(['install', subpath.split('/').slice(0, 2).join('/'), ...needed], place);
    const others = drivers.filter((driver) => !needed.includes(driver) && existsSync(join(place, 'node_modules', driver)));
    const names = await run(
      process.execPath,
      ['--input-type=module', '-e', `console.log(Object.keys(await import('${subpath}')).length)`],
      place,
    );
    if (others.length > 0 || !(Number(names) > 0))
      throw new Error(`${subpath} with ${needed.join(', ')} brings ${others.join(', ')} and exports ${names}.`);
  }
  console.log(`${adapted.length} subpaths imported, each with its own driver and no other\n`);
}

async function onEveryNode(packed: readonly Packed[], npmrc: string): Promise<void> {
  const place = freshFolder('use', npmrc);
  await npm(['install', ...packed.map(({ name }) => name)], place);
  for (const { folder: short } of packed) {
    const script = uses[short];
    if (script === undefined) throw new Error(`There is no script that uses ${short}; write one in tooling/smoke/use.ts.`);
    writeFileSync(join(place, `${short}.js`), script);
  }
  for (const version of nodes) {
    const node = await nodeOf(version);
    for (const { folder: short } of packed) {
      const printed = await run(node, ['--disable-warning=ExperimentalWarning', `${short}.js`], place);
      if (printed.trim() !== 'ok') throw new Error(`${short} on Node ${version} printed ${JSON.stringify(printed)}`);
    }
    console.log(`Node ${(await run(node, ['--version'], place)).trim()}: ${packed.length} packages used`);
  }
}

/** Follows every page under docs/start exactly. */
async function quickStarts(npmrc: string): Promise<void> {
  const pages = readdirSync(join(root, 'docs', 'start')).filter((name) => name !== 'index.md');
  const node = await nodeOf('24');
  for (const page of pages) {
    if (page === 'code-runner.md' && !existsSync('/usr/bin/bwrap')) {
      console.log(`docs/start/${page}: left out, as there is no bubblewrap here`);
      continue;
    }
    const place = freshFolder(`start-${page}`, npmrc);
    const started = performance.now();
    const env = { ...clean(), PATH: `${dirname(node)}${delimiter}${process.env.PATH}`, npm_config_userconfig: join(place, '.npmrc') };
    await followPage(readFileSync(join(root, 'docs', 'start', page), 'utf8'), place, env, (line) => console.log(line.replace(/^/gm, '  ')));
    console.log(`docs/start/${page}: as it says, in ${Math.round((performance.now() - started) / 1_000)} s\n`);
  }
}

/** Installs a Node of a major version from npm, and caches it. */
async function nodeOf(version: string): Promise<string> {
  const place = join(root, '.cache', `node-${version}`);
  const binary = join(place, 'node_modules', 'node', 'bin', 'node');
  if (!existsSync(binary)) {
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, 'package.json'), '{"private":true,"allowScripts":{"node":true}}');
    await npm(['install', `node@${version}`], place);
  }
  return binary;
}

function freshFolder(name: string, npmrc: string): string {
  const place = join(folder, name);
  mkdirSync(place);
  writeFileSync(join(place, '.npmrc'), npmrc);
  writeFileSync(join(place, 'package.json'), '{"private":true,"type":"module"}');
  if (name.startsWith('start-')) rmSync(join(place, 'package.json'));
  return place;
}

function size(bytes: number): string {
  return (bytes < 10 * 2 ** 20 ? `${Math.round(bytes / 1_024)} KiB` : `${Math.round(bytes / 2 ** 20)} MiB`).padStart(8);
}

/**
 * The environment without the variables that npm sets for its scripts, except the path of the machine's settings: npm under another Node
 * looks for them beside that Node.
 */
function clean(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^npm_(?!config_(cache|registry|globalconfig))/i.test(name) && name !== 'INIT_CWD'),
  );
}

async function npm(args: readonly string[], cwd: string): Promise<void> {
  await run('npm', [...args, '--no-audit', '--no-fund', '--loglevel=error'], cwd);
}

async function run(command: string, args: readonly string[], cwd: string): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(command, [...args], { cwd, env: clean(), encoding: 'utf8', timeout: 300_000 }, (error, stdout, stderr) =>
      error ? reject(new Error(`${command} ${args.join(' ')} failed: ${error.message}\n${stdout}\n${stderr}`)) : resolve(stdout),
    );
  });
}
