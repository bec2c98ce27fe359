import type { MarkdownRenderer } from 'vitepress';

/** Links of READMEs and records that are included here lead to files of the repository; here they lead to the pages of those files. */
const pages: readonly (readonly [file: RegExp, page: string])[] = [
  [/^(?:\.\.\/)+contributing\/decisions\/(.+)\.md$/, '/decisions/$1'],
  [/^(?:\.\.\/)+docs\/(.+)\.md$/, '/$1'],
  [/^\.\.\/core$/, '/api/core'],
  [/^\.\.\/(outbox|compensate-biz|notifier|sharded-scan|code-runner|xxl-job|broker|http)$/, '/guarantees/$1'],
];

export function pagesOfReadmes(md: MarkdownRenderer): void {
  const { normalizeLink } = md;
  md.normalizeLink = (url) => {
    for (const [file, page] of pages) if (file.test(url)) return normalizeLink(url.replace(file, page));
    return normalizeLink(url);
  };
}
