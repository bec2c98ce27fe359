import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SiteConfig } from 'vitepress';

/** Writes `llms.txt`, a map of the site for language models, and `llms-full.txt`, all of its own pages in one (llmstxt.org). */
export function writeLlms({ outDir, pages, srcDir, site }: SiteConfig): void {
  const own = pages.filter((page) => page !== 'index.md' && !/^(api|errors|decisions)\//.test(page)).sort();
  const lines: string[] = [];
  const texts: string[] = [];
  for (const page of own) {
    const text = readFileSync(join(srcDir, page), 'utf8').replace(/^---\n[\s\S]*?\n---\n/, '');
    const title = /^# (.+)$/m.exec(text)?.[1] ?? page;
    const about = /^(?![#<|`:-])\S.*$/m.exec(text.replace(/^# .+$/m, ''))?.[0] ?? '';
    lines.push(`- [${title}](${site.base}${page.replace(/(index)?\.md$/, '')}): ${about}`);
    texts.push(`<!-- ${page} -->\n${text.trim()}\n`);
  }
  const head = `# ${site.title}\n\n> ${site.description}\n`;
  writeFileSync(join(outDir, 'llms.txt'), `${head}\n## Pages\n\n${lines.join('\n')}\n`);
  writeFileSync(join(outDir, 'llms-full.txt'), `${head}\n${texts.join('\n')}`);
}
