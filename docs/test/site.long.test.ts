import { execFileSync } from 'node:child_process';
import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import AxeBuilder from '@axe-core/playwright';
import { HoldfastError } from '@holdfast/core';
import { type Browser, chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ErrorPage, errorPages } from '../errors/pages.ts';

const docs = join(import.meta.dirname, '..');
const root = join(docs, '..');
const dist = join(docs, '.vitepress', 'dist');
const types: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.woff2': 'font/woff2',
  '.json': 'application/json',
};

describe('the pages of errors', () => {
  const classes = errorClasses();

  it('are there for every error class, under its code, with its package and whether it may be tried again', () => {
    expect(classes.length).toBeGreaterThan(35);
    const wrong = classes.filter(
      ({ error, code, from, retryable }) =>
        !errorPages.some(
          (page) =>
            page.code === code &&
            ((page.error === error && page.from === from) || sharing.get(error) === page.error) &&
            (page.retryable === 'sometimes' || page.retryable === retryable),
        ),
    );
    expect(wrong).toEqual([]);
  });

  it('are there for nothing else', () => {
    const answers = errorPages.filter(({ error }) => error.startsWith('an answer of the routes')).map(({ code }) => code);
    expect(errorPages.map(({ code }) => code).toSorted()).toEqual(
      [...new Set([...classes.map(({ code }) => code), ...answers])].toSorted(),
    );
  });

  it('are what messages end with', () => {
    for (const { code } of errorPages)
      expect(new HoldfastError('It is so.', { code }).message).toBe(`It is so. See https://holdfast.dev/errors/${code}`);
  });
});

/** Classes that say the same as another, whose page they share. */
const sharing = new Map([['NoSuchRouteError', 'NotFoundError']]);

/** Each class of an error in the packages' sources: what it calls itself, and what it says of itself. */
function errorClasses(): readonly Pick<ErrorPage, 'code' | 'error' | 'from' | 'retryable'>[] {
  return globSync('packages/*/src/**/*.ts', { cwd: root }).flatMap((file) => {
    const [, from = ''] = file.split('/');
    return readFileSync(join(root, file), 'utf8')
      .split(/^(?=(?:export )?class )/m)
      .flatMap((part) => {
        const error = /^(?:export )?class (\w+) extends HoldfastError/.exec(part)?.[1];
        if (!error) return [];
        const code = /^ {2}constructor[\s\S]*?\bcode: '([\w-]+)'/m.exec(part)?.[1] ?? 'none';
        return [{ code, error, from, retryable: /\bretryable: true/.test(part.slice(0, part.search(/^}/m))) }];
      });
  });
}

describe.runIf(process.env.HOLDFAST_CHROMIUM)('the site, in a real browser', () => {
  let server: Server;
  let browser: Browser;
  let address = '';
  beforeAll(async () => {
    // Links, anchors and other hosts are checked by it.
    execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', join(docs, 'site.ts'), 'build'], { cwd: docs, stdio: 'pipe' });
    server = createServer((request, response) => {
      const { pathname } = new URL(request.url ?? '/', 'http://site');
      const file = [pathname, `${pathname}.html`, join(pathname, 'index.html')]
        .map((path) => join(dist, path))
        .find((path) => existsSync(path) && statSync(path).isFile());
      response
        .writeHead(file ? 200 : 404, { 'content-type': types[extname(file ?? '')] ?? 'text/plain' })
        .end(file ? readFileSync(file) : '');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    browser = await chromium.launch({ executablePath: process.env.HOLDFAST_CHROMIUM as string, args: ['--no-sandbox', '--disable-gpu'] });
  }, 300_000);
  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  it.each([
    ['light', 1440],
    ['light', 360],
    ['dark', 1440],
    ['dark', 360],
  ] as const)(
    'reads well in %s at %i px, and asks nobody else for anything',
    async (colorScheme, width) => {
      const context = await browser.newContext({ colorScheme, viewport: { width, height: 900 } });
      const page = await context.newPage();
      const complaints: string[] = [];
      page.on('console', (message) => message.type() === 'error' && complaints.push(`${page.url()}: ${message.text()}`));
      page.on('pageerror', (error) => complaints.push(`${page.url()}: ${error.message}`));
      page.on(
        'request',
        (request) => request.url().startsWith(address) || request.url().startsWith('data:') || complaints.push(request.url()),
      );
      for (const path of [
        '/',
        '/why/outbox',
        '/start/outbox',
        '/guarantees/outbox',
        '/failures/lease-expired',
        '/benchmarks',
        '/proof/ledger',
        '/errors/',
        '/errors/lease-lost',
        '/security',
        '/api/outbox',
      ]) {
        const response = await page.goto(`${address}${path}`);
        expect(response?.status(), path).toBe(200);
        await page.waitForLoadState('networkidle');
        if (process.env.HOLDFAST_SCREENSHOTS)
          await page.screenshot({
            path: join(process.env.HOLDFAST_SCREENSHOTS, `${path.replaceAll('/', '_')}-${colorScheme}-${width}.png`),
          });
        // Nothing but tables and drawings, which scroll by themselves, is wider than the screen.
        expect(
          await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth),
          `${path} scrolls sideways`,
        ).toBeLessThanOrEqual(0);
        if (path.startsWith('/api')) continue;
        const { violations } = await new AxeBuilder({ page }).include('#VPContent').analyze();
        const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
        expect(serious.map(({ id, nodes }) => `${path}: ${id}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 160))}`)).toEqual([]);
      }
      expect(complaints).toEqual([]);
      await context.close();
    },
    180_000,
  );

  it('is searched without a server', async () => {
    const page = await browser.newPage();
    await page.goto(address);
    await page.click('.DocSearch-Button');
    await page.fill('#localsearch-input', 'zombie');
    await page.waitForSelector('.VPLocalSearchBox .result');
    expect(await page.locator('.VPLocalSearchBox .result').count()).toBeGreaterThan(2);
    await page.close();
  });

  it('has a map for language models', () => {
    const map = readFileSync(join(dist, 'llms.txt'), 'utf8');
    expect(map).toMatch(/^# Holdfast\n\n> /);
    expect(map).toContain('- [Why an outbox](/why/outbox): A service writes an order');
    expect(readFileSync(join(dist, 'llms-full.txt'), 'utf8').length).toBeGreaterThan(50_000);
  });
});
