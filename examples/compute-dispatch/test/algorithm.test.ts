import { readFileSync } from 'node:fs';
import { type TestDialect, testDialects, until } from '@holdfast/core/testing';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildPage } from '../src/http/page.ts';
import { startService, type TestService } from './service.ts';

describe('algorithm tasks', () => {
  let service: TestService;
  let address: string;
  let browser: Browser | undefined;
  beforeAll(async () => {
    service = await startService(testDialects()[0] as TestDialect, { machines: 24, pageFolder: await buildPage() });
    ({ address } = service);
  });
  afterAll(async () => {
    await browser?.close();
    await service?.stop();
  });

  it('belong to their tenant, and what is wrong is a problem', async () => {
    const ask = (path: string, tenant: string, init: RequestInit = {}) =>
      fetch(`${address}/v1/algorithm${path}`, { ...init, headers: { authorization: `Bearer ${service.key(tenant)}`, ...init.headers } });
    const made = await ask('/tasks', 'test', { method: 'POST', body: '{"name":"t","language":"python"}' });
    expect(made.status).toBe(201);
    const { id } = (await made.json()) as { id: string };
    expect((await ask(`/tasks/${id}`, 'other')).status).toBe(404);
    const bad = await ask('/tasks', 'test', { method: 'POST', body: '{"name":"t","language":"cobol"}' });
    expect([bad.status, bad.headers.get('content-type')]).toEqual([422, 'application/problem+json']);
    const bytes = Buffer.from([0, 255, 10, 13]);
    expect(
      (await ask(`/tasks/${id}/file?path=b.bin`, 'test', { method: 'PUT', body: bytes, headers: { 'content-type': 'text/plain' } })).status,
    ).toBe(200);
    expect(Buffer.from(await (await ask(`/tasks/${id}/file?path=b.bin`, 'test')).arrayBuffer())).toEqual(bytes);
  });

  describe.runIf(process.env.HOLDFAST_CHROMIUM)('on the page, in a real browser', () => {
    let page: Page;
    const complaints: string[] = [];
    const log = () => page.textContent('#log');
    const write = async (text: string): Promise<void> => {
      await page.locator('#editor .cm-content').click();
      await page.keyboard.press('Control+a');
      await page.keyboard.insertText(text);
    };
    const state = (text: RegExp) => until(async () => text.test((await page.textContent('#run-state')) ?? ''), { what: String(text) });

    it('are made, edited, run, and followed in colour', async () => {
      browser = await chromium.launch({
        executablePath: process.env.HOLDFAST_CHROMIUM as string,
        args: [
          '--no-sandbox',
          '--disable-gpu',
          '--disable-quic',
          '--no-first-run',
          '--disable-background-networking',
          '--disable-component-update',
        ],
      });
      page = await browser.newPage({ viewport: { width: 1440, height: 900 }, acceptDownloads: true });
      page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
      page.on('pageerror', (error) => complaints.push(String(error)));
      await page.goto(`${address}/#key=${service.adminKey}`);
      await page.click('#tabs >> text="Code"');
      await page.fill('#task-new [name=name]', 'colours');
      await page.click('#task-new button');
      await until(async () => (await page.locator('#tree button').allTextContents()).join() === 'run.py,run.sh');
      await write(
        'import time\nprint("\\033[32mgreen\\033[0m \\033[1;31mred\\033[0m <b>plain</b>")\nprint("\\033[38;2;10;20;200mdeep\\033[0m")\ntime.sleep(0.2)\nopen("/out/result.txt", "w").write("42")\n',
      );
      expect(await page.textContent('#file-state')).toBe('not saved');
      await page.keyboard.press('Control+Enter');
      await state(/has finished/);
      expect(await log()).toBe('green red <b>plain</b>\ndeep\n');
      expect(await page.locator('#log .ansi-green-fg').textContent()).toBe('green');
      expect(await page.locator('#log .ansi-red-fg, #log .ansi-bright-red-fg').textContent()).toBe('red');
      expect(await page.locator('#log b').count()).toBe(0);
      expect(
        await page.evaluate(
          () =>
            getComputedStyle([...document.querySelectorAll('#log span')].findLast((one) => one.textContent === 'deep') as Element).color,
        ),
      ).toBe('rgb(10, 20, 200)');
      await until(async () => (await page.locator('#runs tr').count()) === 1);
      const [download] = await Promise.all([page.waitForEvent('download'), page.click('#runs a')]);
      expect(
        readFileSync(await download.path())
          .subarray(0, 2)
          .toString(),
      ).toBe('PK');
    });

    it('are run with arguments or by a command, and with remarks; one file is downloaded', async () => {
      await write('import sys\nprint(sys.argv[1:])\n');
      await page.fill('#arguments', "--fast 'two words'");
      await page.click('#input-open');
      await page.fill('#remarks', 'a try');
      await page.click('#run');
      await until(async () => (await log()) === "['--fast', 'two words']\n");
      await state(/has finished/);
      await until(async () => /python3 run\.py --fast 'two words'.*a try/.test((await page.textContent('#runs tr')) ?? ''));
      await page.fill('#arguments', '');
      await page.fill('#command', 'python3 -c "print(6 * 7)"');
      await page.click('#run');
      await until(async () => (await log()) === '42\n');
      await state(/has finished/);
      for (const field of ['#command', '#remarks']) await page.fill(field, '');
      await page.click('#input-open');
      const [file] = await Promise.all([page.waitForEvent('download'), page.click('#file-out')]);
      expect([file.suggestedFilename(), readFileSync(await file.path()).toString()]).toEqual([
        'run.py',
        'import sys\nprint(sys.argv[1:])\n',
      ]);
    });

    it('are stopped, and an earlier log is shown again', async () => {
      await write('import time\nprint("up")\ntime.sleep(60)\n');
      await page.click('#run');
      await until(async () => (await log()) === 'up\n');
      expect(await page.isDisabled('#run')).toBe(true);
      await page.click('#stop');
      await state(/was stopped/);
      await until(async () => (await page.locator('#runs tr').count()) === 4);
      await page.click('#runs tr:nth-child(4) button');
      await until(async () => (await log())?.startsWith('green') === true);
    });

    it('have files in folders: made, renamed, chosen to run, removed, uploaded', async () => {
      const file = async (path: string, button: string): Promise<void> => {
        await page.fill('#file-form [name=path]', path);
        await page.click(`#file-form button[value=${button}]`);
      };
      await file('src/helper.py', 'new');
      await until(async () => (await page.textContent('#file-name')) === 'src/helper.py');
      await write('print("helped")\n');
      await page.click('#save');
      await until(async () => (await page.textContent('#file-state')) === 'saved');
      await file('lib/help.py', 'rename');
      await until(async () => (await page.textContent('#file-name')) === 'lib/help.py');
      await file('lib/help.py', 'main');
      await until(async () => (await page.locator('#tree .main').textContent()) === 'help.py');
      await page.click('#run');
      await until(async () => (await log()) === 'helped\n');
      await state(/has finished/);
      await file('../escape', 'new');
      await until(async () => /a part \.\./.test((await page.textContent('#algorithm-answer')) ?? ''));
      await file('run.py', 'remove');
      await page.click('dialog button[value=yes]');
      await until(async () => !(await page.locator('#tree button').allTextContents()).includes('run.py'));
      // Somebody else writes the open file.
      const id = await page.inputValue('#task');
      await page.click('#tree button[data-path="lib/help.py"]');
      await until(async () => (await page.textContent('#file-name')) === 'lib/help.py');
      await fetch(`${address}/v1/algorithm/tasks/${id}/file?path=lib/help.py`, {
        method: 'PUT',
        body: 'print("theirs")\n',
        headers: { authorization: `Bearer ${service.key('demo')}` },
      });
      await write('print("mine")\n');
      await page.click('#save');
      await until(async () => /somebody else has changed it/.test((await page.textContent('#algorithm-answer')) ?? ''));
      complaints.splice(0, complaints.length, ...complaints.filter((line) => !/4(22|09)/.test(line)));
      await page.click('#task-remove');
      await page.click('dialog button[value=yes]');
      await until(async () => await page.isHidden('#bench'));
    });

    it('keep edits when another task is made or chosen, and when an archive is loaded', async () => {
      const make = async (name: string): Promise<string> => {
        await page.fill('#task-new [name=name]', name);
        await page.press('#task-new [name=name]', 'Enter');
        await until(async () => (await page.textContent('#algorithm-answer')) === `Made ${name}.`);
        return page.inputValue('#task');
      };
      const saved = async (id: string) =>
        (
          await fetch(`${address}/v1/algorithm/tasks/${id}/file?path=run.py`, {
            headers: { authorization: `Bearer ${service.key('demo')}` },
          })
        ).text();
      const first = await make('edits');
      await write('print("first")\n');
      const second = await make('others');
      expect(await saved(first)).toBe('print("first")\n');
      await write('print("second")\n');
      await page.selectOption('#task', first);
      await until(async () => /first/.test((await page.textContent('#editor .cm-content')) ?? ''));
      expect(await saved(second)).toBe('print("second")\n');
      await write('print("asked")\n');
      // Two taps on the open file keep what is typed.
      await page.click('#tree button[data-path="run.py"]');
      expect(await page.textContent('#file-state')).toBe('not saved');
      const [zip] = await Promise.all([page.waitForEvent('download'), page.click('#zip-out')]);
      const archive = { name: 'old.zip', mimeType: 'application/zip', buffer: readFileSync(await zip.path()) };
      await page.setInputFiles('#zip-in', archive);
      await page.click('dialog >> text="Keep it"');
      expect(await page.textContent('#editor .cm-content')).toContain('asked');
      expect(await saved(first)).toBe('print("first")\n');
      await page.setInputFiles('#zip-in', archive);
      await page.click('dialog button[value=yes]');
      await until(async () => /came out of old.zip/.test((await page.textContent('#algorithm-answer')) ?? ''));
    });

    it('run and stop each for themselves, with arguments and input, the time they take, and progress on one line', async () => {
      const first = await page.inputValue('#task');
      await write('import time\nprint("up")\ntime.sleep(60)\n');
      await page.click('#run');
      await until(async () => (await log()) === 'up\n');
      expect(await page.isEnabled('#stop')).toBe(true);
      const ask = async () =>
        (await (
          await fetch(`${address}/v1/algorithm/tasks/${first}/runs`, { headers: { authorization: `Bearer ${service.key('demo')}` } })
        ).json()) as { runs: { state: number }[] };
      await page.fill('#task-new [name=name]', 'beside');
      await page.press('#task-new [name=name]', 'Enter');
      await state(/Not run yet/);
      // The run of the task before goes on, and is none of this one's.
      expect([await page.isEnabled('#run'), await page.isDisabled('#stop'), await log()]).toEqual([true, true, '']);
      expect((await ask()).runs[0]?.state).toBe(2);
      await write('import sys\nfor i in range(3): print(f"{i} of 3", end="\\r", flush=True)\nprint("done  ", sys.argv[1:], input())\n');
      await page.fill('#arguments', '--fast "two words"');
      await page.click('#input-open');
      await page.fill('#input', 'typed\n');
      await page.click('#run');
      await state(/has finished/);
      expect(await log()).toBe("done   ['--fast', 'two words'] typed\n");
      expect(await page.textContent('#run-time')).toMatch(/^\d+\.\d s$/);
      await page.fill('#arguments', '');
      await page.click('#input-open');
      await page.selectOption('#task', first);
      await until(async () => await page.isEnabled('#stop'));
      expect(await page.isDisabled('#run')).toBe(true);
      await page.click('#stop');
      await state(/was stopped/);
      await until(async () => await page.isEnabled('#run'));
    });

    it('fit a phone and a desk, light and dark, and are used by keyboard', async () => {
      await page.fill('#task-new [name=name]', 'views');
      await page.press('#task-new [name=name]', 'Enter');
      await until(async () => (await page.textContent('#algorithm-answer')) === 'Made views.');
      await until(async () => (await page.textContent('#file-name')) === 'run.py');
      await page.focus('#run');
      await page.keyboard.press('Enter');
      await state(/has finished/);
      for (const [width, colorScheme] of [
        [360, 'light'],
        [360, 'dark'],
        [1440, 'light'],
        [1440, 'dark'],
      ] as const) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        expect(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `${width}`).toBe(true);
        if (process.env.HOLDFAST_SCREENSHOT)
          await page
            .locator('#algorithm')
            .screenshot({ path: process.env.HOLDFAST_SCREENSHOT.replace(/(\.png)?$/, `-${width}-${colorScheme}.png`) });
      }
      expect(complaints).toEqual([]);
    });
  });
});
