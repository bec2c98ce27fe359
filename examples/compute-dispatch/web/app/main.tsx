import { render } from 'preact';
import { Apply } from './apply.tsx';
import { BatchDetail, Batches } from './batches.tsx';
import { Invoices, Messages } from './figures.tsx';
import { Invariants } from './invariants.tsx';
import { Knobs } from './knobs.tsx';
import { Room } from './room.tsx';
import { begin, SignIn } from './session.tsx';
import { session, touch } from './state.ts';

function App() {
  if (!session.value) return <SignIn />;
  return (
    <>
      <Apply />
      <Room />
      <Knobs />
      <Invariants />
      <Batches />
      <BatchDetail />
      <Messages />
      <Invoices />
    </>
  );
}

function Touch() {
  return <>{session.value ? touch.value : 'not signed in'}</>;
}

render(<App />, document.getElementById('app') as HTMLElement);
render(<Touch />, document.getElementById('touch') as HTMLElement);
document.addEventListener('signed-in', () => {
  (document.getElementById('algorithm') as HTMLElement).hidden = false;
});
await begin();
