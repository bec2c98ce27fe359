import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');
const sources = {
  createOutbox: read('src/outbox.ts'),
  put: read('src/put/new-message.ts'),
  relay: read('src/relay/relay.ts'),
  createInbox: read('src/inbox/inbox.ts'),
  consume: read('src/inbox/consumption.ts'),
};
const interfaces = {
  createOutbox: 'OutboxOptions',
  put: 'PutOptions',
  relay: 'RelayOptions',
  createInbox: 'InboxOptions',
  consume: 'ConsumeOptions',
};
type Place = keyof typeof sources;

/** Options of the README's table, by where they are given, with their defaults. */
function table(): Map<Place, Map<string, string>> {
  const found = new Map<Place, Map<string, string>>();
  let place: Place | undefined;
  const [, section = ''] = read('README.md').split('#region options');
  for (const line of section.split('\n').filter((text) => text.startsWith('| ') && text.includes('`'))) {
    const [, where = '', options = '', value = ''] = line.split('|').map((cell) => cell.trim());
    place = (/^`(\w+)`/.exec(where)?.[1] as Place | undefined) ?? place;
    if (!place) continue;
    const of = found.get(place) ?? new Map<string, string>();
    for (const [, name = ''] of options.matchAll(/`(\w+)`/g)) of.set(name, value);
    found.set(place, of);
  }
  return found;
}

/** A default as the code writes it, in the words of the README. */
function inWords(code: string): string {
  const text = code.replaceAll(/['_]/g, '');
  const duration = /^(\d+)(ms|s|m|d)$/.exec(text);
  if (duration) return `${duration[1]} ${{ ms: 'ms', s: 's', m: 'min', d: 'days' }[duration[2] ?? '']}`;
  if (code.startsWith('exponential')) return '1 s, doubled up to 1 min, without end';
  if (/^\d+$/.test(text)) return Number(text) >= 65_536 ? `${Number(text) / 1_024} KiB` : Number(text).toLocaleString('en-US');
  return `\`${text}\``;
}

it.each(Object.keys(sources) as Place[])('the README has every option of %s, with the default of the code', (place) => {
  const source = sources[place];
  const [, body = ''] = new RegExp(`interface ${interfaces[place]}[^{]*\\{([\\s\\S]*?)\\n\\}`).exec(source) ?? [];
  const options = [...body.matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, name = '']) => name);
  expect(options.length).toBeGreaterThan(1);
  const named = table().get(place) ?? new Map<string, string>();
  expect([...named.keys()].filter((name) => name !== 'knex').toSorted()).toEqual(options.toSorted());
  let compared = 0;
  for (const name of options) {
    const code = new RegExp(`options\\.${name} \\?\\? ([\\w'.]+)`).exec(source)?.[1];
    if (code === undefined || /^default|^active|^topic/.test(code)) continue;
    expect([name, named.get(name)]).toEqual([name, inWords(code)]);
    compared += 1;
  }
  if (place === 'relay') expect(compared).toBeGreaterThanOrEqual(9);
});
