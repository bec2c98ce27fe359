import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

/** What is wrong with a built site. */
export interface SiteCheck {
  readonly pages: number;
  readonly links: number;
  readonly problems: readonly string[];
}

/** Follows every link of a built site to its page and its anchor, and finds whatever would be asked of another host. */
export function checkSite(dist: string): SiteCheck {
  const files = readdirSync(dist, { recursive: true, encoding: 'utf8' });
  const html = files.filter((file) => file.endsWith('.html'));
  const ids = new Map<string, ReadonlySet<string>>();
  const texts = new Map<string, string>();
  for (const file of html) {
    const text = readFileSync(join(dist, file), 'utf8');
    texts.set(file, text);
    ids.set(`/${file}`, new Set([...text.matchAll(/\sid="([^"]+)"/g)].map(([, id = '']) => decoded(id))));
  }
  const problems: string[] = [];
  let links = 0;
  for (const [file, text] of texts) {
    for (const [, tag = '', attributes = ''] of text.matchAll(/<(a|img|script|link|iframe|source)\s([^>]*)>/g)) {
      const target = /\s?(?:href|src)="([^"]*)"/.exec(attributes)?.[1];
      if (target === undefined || target === '' || target.startsWith('data:') || target.startsWith('mailto:')) continue;
      if (/^(https?:)?\/\//.test(target)) {
        // A link may lead elsewhere; a page may not ask elsewhere for anything.
        if (tag !== 'a') problems.push(`${file} asks another host for ${target}`);
        continue;
      }
      links += 1;
      const { pathname, hash } = new URL(decoded(target), `http://site/${file}`);
      const found = [pathname, `${pathname}.html`, `${pathname.replace(/\/$/, '')}/index.html`].find(
        (path) => ids.has(path) || files.includes(relative('/', decodeURIComponent(path))),
      );
      if (found === undefined) problems.push(`${file} links ${target}, which is not there`);
      else if (hash.length > 1 && ids.has(found) && !ids.get(found)?.has(decodeURIComponent(hash.slice(1))))
        problems.push(`${file} links ${target}; there is no such heading`);
    }
  }
  for (const file of files.filter((one) => one.endsWith('.css')))
    for (const [, target] of readFileSync(join(dist, file), 'utf8').matchAll(/url\(["']?(https?:[^)"']+)/g))
      problems.push(`${file} asks ${target}`);
  return { pages: html.length, links, problems };
}

function decoded(text: string): string {
  return text.replaceAll('&amp;', '&').replaceAll('&#39;', "'").replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>');
}
