import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type DefaultTheme, defineConfig } from 'vitepress';
import { errorPages } from '../errors/pages.ts';
import { writeLlms } from './llms.ts';
import { mermaid } from './mermaid.ts';
import { pagesOfReadmes } from './pages-of-readmes.ts';

const root = join(import.meta.dirname, '..', '..');
const repository = 'https://github.com/holdfast-dev/holdfast';
const base = process.env.DOCS_BASE ?? '/';

type Pages = readonly (readonly [name: string, title: string])[];

const packages: Pages = [
  ['outbox', 'Outbox and inbox'],
  ['compensate-biz', 'Compensation tasks'],
  ['notifier', 'Signed webhooks'],
  ['sharded-scan', 'Shard scans'],
  ['xxl-job', 'xxl-job executor'],
  ['code-runner', 'Code runner'],
];
const failures: Pages = [
  ['process-killed', 'A process is killed'],
  ['lease-expired', 'A lease expires'],
  ['failover', 'The database fails over'],
  ['poison', 'A poison message'],
  ['clock-skew', 'Clocks differ'],
  ['slow-consumer', 'A consumer is slow'],
  ['broker-down', 'The broker is down'],
];
const operations: Pages = [
  ['tables', 'Tables and indexes'],
  ['mysql', 'MySQL and MariaDB'],
  ['command-line', 'Command line'],
  ['tasks', 'Find, follow, cancel, redrive tasks'],
  ['metrics', 'Metrics, events, logs'],
  ['tuning', 'Tuning'],
  ['upgrade', 'Upgrade'],
  ['uninstall', 'Uninstall'],
];
const recipes: Pages = [
  ['rocketmq', 'From RocketMQ and a table'],
  ['xxl-job', 'From xxl-job'],
  ['retryable', 'From @Retryable callbacks'],
  ['ack-then-create', 'From ack-then-create'],
];

function section(text: string, folder: string, pages: Pages, collapsed = true): DefaultTheme.SidebarItem {
  return { text, collapsed, items: pages.map(([name, title]) => ({ text: title, link: `/${folder}/${name}` })) };
}

const decisions = readdirSync(join(root, 'contributing', 'decisions'))
  .filter((name) => name.endsWith('.md'))
  .sort()
  .map((name) => name.slice(0, -3));

export default defineConfig({
  title: 'Holdfast',
  description:
    'npm packages for work that must happen: a transactional outbox, compensation tasks, signed webhooks, shard scans, a code runner.',
  lang: 'en',
  base,
  cleanUrls: true,
  lastUpdated: false,
  srcExclude: ['**/node_modules/**'],
  head: [['link', { rel: 'icon', type: 'image/svg+xml', href: `${base}mark.svg` }]],
  markdown: {
    config: (md) => {
      mermaid(md);
      pagesOfReadmes(md);
    },
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
  },
  // Its own target: the repository's is newer than this Vite knows.
  vite: { server: { fs: { allow: [root] } }, esbuild: { target: 'es2022', tsconfigRaw: {} } },
  buildEnd: writeLlms,
  themeConfig: {
    logo: '/mark.svg',
    search: { provider: 'local' },
    outline: { level: [2, 3] },
    socialLinks: [{ icon: 'github', link: repository }],
    nav: [
      { text: 'Start', link: '/start/', activeMatch: '^/start/' },
      { text: 'Guarantees', link: '/guarantees/', activeMatch: '^/guarantees/' },
      { text: 'Operate', link: '/operate/tables', activeMatch: '^/operate/' },
      {
        text: 'Proof',
        items: [
          { text: 'Fault ledger', link: '/proof/ledger' },
          { text: 'Benchmarks', link: '/benchmarks' },
          { text: 'Security', link: '/security' },
        ],
      },
      { text: 'API', link: '/api/', activeMatch: '^/api/' },
    ],
    sidebar: [
      {
        text: 'Begin here',
        items: [
          { text: 'What it is', link: '/what' },
          { text: 'When not to use this', link: '/when-not' },
          { text: 'Glossary', link: '/glossary' },
        ],
      },
      section('Why', 'why', packages, false),
      section('Quick starts', 'start', packages, false),
      section('Guarantees', 'guarantees', packages),
      section('What happens when', 'failures', failures),
      section('Operate', 'operate', operations),
      { text: 'Test your own code', link: '/testing' },
      section('Coming from elsewhere', 'recipes', recipes),
      {
        text: 'Errors',
        collapsed: true,
        items: [{ text: 'All codes', link: '/errors/' }, ...errorPages.map(({ code }) => ({ text: code, link: `/errors/${code}` }))],
      },
      {
        text: 'Proof',
        collapsed: false,
        items: [
          { text: 'Benchmarks', link: '/benchmarks' },
          { text: 'Fault ledger', link: '/proof/ledger' },
          { text: 'Security', link: '/security' },
        ],
      },
      { text: 'API reference', link: '/api/' },
      {
        text: 'Decisions',
        collapsed: true,
        items: decisions.map((name) => ({ text: name.slice(11).replaceAll('-', ' '), link: `/decisions/${name}` })),
      },
    ],
    footer: { message: 'MIT licence' },
  },
});
