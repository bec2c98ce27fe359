import { computed, signal } from '@preact/signals';

/** The parts of the page. Those of operators are not shown to tenants. */
export const tabs = [
  { name: 'overview', title: 'Overview', operators: false },
  { name: 'batches', title: 'Batches', operators: false },
  { name: 'machines', title: 'Machines', operators: true },
  { name: 'callbacks', title: 'Callbacks', operators: false },
  { name: 'code', title: 'Code', operators: false },
  { name: 'chaos', title: 'Chaos', operators: true },
] as const;
export type TabName = (typeof tabs)[number]['name'];

const parts = signal<readonly string[]>([]);
const read = (): void => {
  parts.value = location.hash.startsWith('#/') ? location.hash.slice(2).split('/') : [];
};
read();
addEventListener('hashchange', read);
addEventListener('popstate', read);

/** The tab of the address; an unknown one is the overview. */
export const tab = computed<TabName>(() => tabs.find(({ name }) => name === parts.value[0])?.name ?? 'overview');
/** The batch and the slot that the address opens. */
export const openBatch = computed(() => (tab.value === 'batches' ? parts.value[1] : undefined));
export const openSlot = computed(() => (tab.value === 'batches' ? parts.value[2] : undefined));

/** The address of a tab, and of what is open in it. */
export const addressOf = (name: TabName, ...opened: readonly string[]): string => `#/${[name, ...opened].join('/')}`;

export const go = (address: string): void => {
  location.hash = address;
};
