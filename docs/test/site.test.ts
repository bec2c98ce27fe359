import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import AxeBuilder from '@axe-core/playwright';
import { type Browser, chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { errorPages } from '../errors/pages.ts';

const docs = join(import.meta.dirname, '..');
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

it('has a page for every error class, and a link to it in every message', () => {
  const found = execFileSync('git', ['grep', '-hE', 'class [A-Za-z]+ extends HoldfastError', '--', 'packages'], {
    cwd: join(docs, '..'),
    encoding: 'utf8',
  });
  const classes = found.trim().split('\n').length;
  // Those of the routes are answers, not classes; two classes share `not-found`.
  expect(errorPages.filter(({ error }) => error.endsWith('Error')).length + 1).toBe(classes);
  expect(new Set(errorPages.map(({ code }) => code)).size).toBe(errorPages.length);
});

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
