import AxeBuilder from '@axe-core/playwright';
import { type TestDialect, testDialects, until } from '@holdfast/core/testing';
import { type HostileReceiver, hostileReceiver } from '@holdfast/notifier/testing';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildPage } from '../src/http/page.ts';
import { startService, type TestService } from './service.ts';

const sizes = [
  { name: 'a phone', width: 360, height: 760 },
  { name: 'a tablet', width: 768, height: 1024 },
  { name: 'a desk', width: 1440, height: 900 },
] as const;

describe.runIf(process.env.HOLDFAST_CHROMIUM)('the page, in a real browser', () => {
  let service: TestService;
  let customer: HostileReceiver;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let crashes = 0;
  const complaints: string[] = [];
  beforeAll(async () => {
    customer = await hostileReceiver();
    service = await startService(testDialects()[0] as TestDialect, {
      billingMs: 1_000,
      losePercent: 30,
      pageFolder: await buildPage(),
      egress: { allowHttp: true, allowCidrs: ['127.0.0.1/32'], allowPorts: [customer.port] },
      crash: () => {
        crashes += 1;
      },
    });
    await service.dispatch.callbacks.register('demo', customer.url);
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
    context = await browser.newContext({ viewport: sizes[2] });
    page = await context.newPage();
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
  });
  afterAll(async () => {
    await browser?.close();
    await service?.stop();
    await customer?.close();
  });
  const text = async (selector: string) => (await page.textContent(selector)) ?? '';
  /** Shows a tab by its link, as a visitor does. */
  const show = async (tab: string): Promise<void> => {
    await page.click(`#tabs >> text="${tab}"`);
    await page.waitForSelector(`#tabs [aria-current=page] >> text="${tab}"`);
  };
  const machinesShown = () => page.waitForFunction(() => document.querySelectorAll('#room li').length === 96);
  const says = (selector: string, what: RegExp) => until(async () => what.test(await text(selector)), { what: `${selector} says ${what}` });

  it('asks who is there, refuses a wrong key, and takes the one of the address', async () => {
    const errors = complaints.length;
    await page.goto(service.address);
    await page.fill('[name=key]', 'hf_wrong');
    await page.click('#sign-in button');
    await says('#app [role=status]', /No valid API key/);
    // A browser says of each answer that it was no success.
    complaints.splice(errors);
    await page.goto('about:blank');
    await page.goto(`${service.address}/#key=${service.adminKey}`);
    await says('#strip-running', /0 of 96/);
    expect(page.url()).toBe(`${service.address}/`);
    expect(await page.evaluate(() => document.cookie)).toBe('');
    await show('Machines');
    await machinesShown();
    await page.reload();
    await machinesShown();
    complaints.length = 0;
  });

  it('has an address for each tab: back and reload show what was shown', async () => {
    await page.goto(service.address);
    for (const tab of ['Batches', 'Callbacks', 'Code', 'Chaos', 'Machines']) {
      await show(tab);
      expect(page.url()).toBe(`${service.address}/#/${tab.toLowerCase()}`);
    }
    await page.goBack();
    await page.waitForSelector('#knobs');
    await page.reload();
    await page.waitForSelector('#knobs');
    expect(await text('#tabs [aria-current=page]')).toBe('Chaos');
  });

  it.each(sizes)(
    'orders on $name, and shows machines come up, the slots, their timeline, and what the customer was told',
    async ({ width, height }) => {
      await page.setViewportSize({ width, height });
      const order = `by-hand-${width}`;
      await show('Machines');
      await machinesShown();
      const before = await page.locator('#room [data-state=RUNNING]').count();
      await show('Batches');
      await page.fill('[name=businessOrderNo]', order);
      await page.fill('[name=count]', '4');
      await page.fill('[name=minimum]', '1');
      await page.selectOption('[name=packageId]', 'graphics');
      await page.click('#apply button');
      await says(`[data-order="${order}"]`, /4 \/ 4Filled/);
      await show('Machines');
      await machinesShown();
      expect(await page.locator('#room [data-state=RUNNING]').count()).toBe(before + 4);
      await show('Batches');
      await page.click(`[data-order="${order}"] button`);
      await page.click('#slots tr:first-child button');
      await page.waitForFunction(() => document.querySelectorAll('#callbacks [data-outcome="delivered"]').length === 2);
      expect(page.url()).toMatch(/#\/batches\/\d+\/\d+$/);
      await page.click('#callbacks li:first-child button');
      await page.waitForFunction(() => document.querySelectorAll('#callbacks [data-outcome="delivered"]').length === 3);
      expect(await text('#callbacks')).toContain('manual');
      await says('#timeline', /Order accepted.*Task allocate: \w+|Task allocate: \w+.*Order accepted/s);
      for (const what of ['Machine reserved', 'Switched on', 'Told to all: running', 'Usage billed', 'delivered, HTTP 200'])
        await says('#timeline', new RegExp(what));
    },
  );

  it('breaks, shows what it does to the room, and heals', async () => {
    await show('Chaos');
    await page.locator('#knobs [name=crashPercentPerMinute]').focus();
    for (let i = 0; i < 3; i++) await page.keyboard.press('ArrowRight');
    await says('#knobs-say', /Machines that crash, per minute: 3 %/);
    await until(() => service.room.misbehaviour.crashPercentPerMinute === 3);
    await page.click('#storm');
    await until(() => service.room.misbehaviour.losePercent === 25);
    await show('Batches');
    await page.fill('[name=businessOrderNo]', 'in-the-storm');
    await page.fill('[name=count]', '12');
    await page.selectOption('[name=packageId]', 'standard');
    await page.click('#apply button');
    await says('[data-order="in-the-storm"]', /\d+ \/ 12/);
    await show('Chaos');
    await page.click('#crash');
    await says('#knobs-say', /worker was killed/);
    await until(() => crashes === 1);
    await page.click('#heal');
    await until(() => service.room.misbehaviour.losePercent === 0);
    await page.click('#reconcile');
    await says('#knobs-say', /Compared/);
    await show('Batches');
    await until(async () => /Filled|Partly filled|Ended/.test(await text('[data-order="in-the-storm"]')), {
      withinMs: 70_000,
      what: 'the order in the storm is filled',
    });
    await show('Overview');
    await says('#strip-invariants', /10 hold/);
    await says('#invariants-say', /All ten hold/);
    expect(await page.locator('#invariants [data-holds=true]').count()).toBe(10);
  }, 120_000);

  it('gives back what was ordered, and scans for invoices whose sender was lost', async () => {
    const figure = async (name: string) => Number((await text(`#messages-${name}`)).replaceAll(',', ''));
    await show('Chaos');
    await until(async () => (await figure('invoicesUnsent')) > 2);
    for (const { knex } of service.shards)
      for (let table = 0; table < 4; table++) await knex(`invoice_00${table}`).decrement('created_ms', 31_000);
    await page.click('#scan button');
    await says('#scan-pass', /^Pass \d+, .* ended .* [1-9]\d* sent again/);
    expect(await page.locator('#units li[data-state="done"]').count()).toBe(8);
    await page.fill('[name=databases]', '9');
    await page.click('#scan button');
    await says('#scan-answer', /databases 1 to 2/);
    await show('Batches');
    await page.click('[data-order="by-hand-1440"] button');
    await page.click('#release');
    await page.click('dialog >> text="Keep it"');
    await page.click('#release');
    await page.click('dialog button[value=yes]');
    await says('[data-order="by-hand-1440"]', /EndedFilled/);
    complaints.splice(0, complaints.length, ...complaints.filter((line) => !line.includes('422')));
  });

  it('can be used by the keyboard alone', async () => {
    await page.reload();
    await page.waitForFunction(() => document.querySelectorAll('#batches tr[data-order]').length >= 2);
    const tabTo = async (selector: string) => {
      for (let i = 0; i < 80; i++) {
        await page.keyboard.press('Tab');
        if (await page.evaluate((wanted) => document.activeElement?.matches(wanted) ?? false, selector)) return;
      }
      throw new Error(`Tab does not reach ${selector}.`);
    };
    await tabTo('[name=businessOrderNo]');
    await page.keyboard.press('Control+a');
    await page.keyboard.type('by-keyboard');
    await page.keyboard.press('Enter');
    await says('[data-order="by-keyboard"]', /Filled/);
    await tabTo('[data-order="by-keyboard"] button');
    await page.keyboard.press('Enter');
    await tabTo('#slots tr:first-child button');
    await page.keyboard.press('Enter');
    await says('#timeline', /running/);
    await tabTo('#release');
    await page.keyboard.press('Space');
    await tabTo('dialog button[value=yes]');
    await page.keyboard.press('Enter');
    await says('[data-order="by-keyboard"]', /Ended/);
  }, 60_000);

  it.each(sizes.flatMap((size) => (['light', 'dark'] as const).map((scheme) => ({ ...size, scheme }))))(
    'fits $name, has nothing serious against it, in $scheme',
    async ({ name: _, scheme, ...size }) => {
      await page.setViewportSize(size);
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
      for (const tab of ['Overview', 'Batches', 'Machines', 'Callbacks', 'Code', 'Chaos']) {
        await show(tab);
        // What was open before is opened again: a slot, with its timeline.
        if (tab === 'Batches') {
          await page.click('[data-order="by-hand-360"] button');
          await page.click('#slots tr:first-child button');
          await page.waitForSelector('#timeline li');
        }
        await page.waitForTimeout(300);
        expect(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), tab).toBe(true);
        if (process.env.HOLDFAST_SCREENSHOTS) {
          const file = `${process.env.HOLDFAST_SCREENSHOTS}/compute-dispatch-${tab.toLowerCase()}-${size.width}-${scheme}.png`;
          await page.screenshot({ path: file, fullPage: true });
        }
        const { violations } = await new AxeBuilder({ page }).analyze();
        expect(
          violations
            .filter(({ impact }) => impact === 'serious' || impact === 'critical')
            .map(({ id, nodes }) => `${tab}: ${id}: ${nodes[0]?.html} ${nodes[0]?.failureSummary}`),
        ).toEqual([]);
      }
    },
    60_000,
  );

  it("signs out, and is nobody's after that", async () => {
    await page.click('#sign-out');
    await page.waitForSelector('#sign-in');
    await page.reload();
    await page.waitForSelector('#sign-in');
    complaints.splice(0, complaints.length, ...complaints.filter((line) => !line.includes('401')));
  });

  it('complains of nothing, and asks nobody else for anything', async () => {
    expect(complaints).toEqual([]);
    const response = await page.request.get(service.address);
    expect(response.headers()['content-security-policy']).toContain("default-src 'self'");
    expect(await page.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => new URL(name).origin))).toEqual(
      expect.not.arrayContaining([expect.not.stringContaining(service.address)]),
    );
    await page.goto(`${service.address}/docs`);
    await page.waitForSelector('.opblock');
    expect(await page.locator('.opblock').count()).toBeGreaterThan(30);
    expect(complaints).toEqual([]);
  });
});
