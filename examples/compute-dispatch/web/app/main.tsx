import { effect } from '@preact/signals';
import { render } from 'preact';
import { Apply } from './apply.tsx';
import { Batches } from './batches.tsx';
import { CallbacksPane } from './callbacks.tsx';
import { Chart } from './chart.tsx';
import { Invoices, Messages } from './figures.tsx';
import { Invariants } from './invariants.tsx';
import { Knobs } from './knobs.tsx';
import { Latest } from './latest.tsx';
import { Room } from './room.tsx';
import { type TabName, tab, tabs } from './route.ts';
import { begin, SignIn } from './session.tsx';
import { Strip, Top } from './shell.tsx';
import { session } from './state.ts';

const panes: Readonly<Record<TabName, () => unknown>> = {
  overview: () => (
    <>
      <Chart />
      <Latest />
      <Invariants />
      <Messages />
    </>
  ),
  batches: () => (
    <>
      <Batches />
      <Apply />
    </>
  ),
  machines: () => <Room />,
  callbacks: () => <CallbacksPane />,
  code: () => null,
  chaos: () => (
    <>
      <Knobs />
      <Invoices />
    </>
  ),
};

function App() {
  if (!session.value) return <SignIn />;
  return (
    <>
      <Strip />
      <div class="pane" data-tab={tab.value} key={tab.value}>
        {panes[tab.value]() as never}
      </div>
    </>
  );
}

render(<Top />, document.getElementById('top') as HTMLElement);
render(<App />, document.getElementById('app') as HTMLElement);
effect(() => {
  (document.getElementById('algorithm') as HTMLElement).hidden = !session.value || tab.value !== 'code';
  document.title = `${tabs.find(({ name }) => name === tab.value)?.title}, compute-dispatch`;
});
// Another tab begins at its top, and its link is seen on a phone too.
effect(() => {
  const name = tab.value;
  requestAnimationFrame(() => {
    scrollTo(0, 0);
    document.querySelector(`#tabs [href="#/${name}"]`)?.scrollIntoView({ inline: 'nearest', block: 'nearest' });
  });
});
await begin();
