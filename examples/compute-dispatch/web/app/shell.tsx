import { ask } from './api.ts';
import { addressOf, tab, tabs } from './route.ts';
import { session, snapshot, touch } from './state.ts';
import { count } from './words.ts';

/** Name, tabs, whose page it is, and the way out. */
export function Top() {
  const who = session.value;
  const signOut = async (): Promise<void> => {
    await ask('DELETE', 'v1/session');
    // A page that begins anew keeps nothing of the visitor; edits that are not saved are asked for by the browser.
    location.replace(location.pathname);
    location.reload();
  };
  return (
    <>
      <h1>compute-dispatch</h1>
      {who ? (
        <nav id="tabs" aria-label="parts of the page">
          {tabs
            .filter(({ operators }) => who.admin || !operators)
            .map(({ name, title }) => (
              <a key={name} href={addressOf(name)} aria-current={tab.value === name ? 'page' : undefined}>
                {title}
              </a>
            ))}
        </nav>
      ) : null}
      <div class="who">
        <span id="touch" role="status" data-touch={who ? touch.value : ''}>
          {who ? touch.value : 'not signed in'}
        </span>
        <a href="docs">API reference</a>
        {who ? (
          <button type="button" class="quiet" id="sign-out" onClick={() => void signOut()}>
            Sign out
          </button>
        ) : null}
      </div>
    </>
  );
}

/** The figures that say whether all is well, on every tab. */
export function Strip() {
  const now = snapshot.value;
  if (!now) return null;
  const { batches, figures, invariants, machines } = now;
  const running = machines
    ? machines.filter(({ state }) => state === 'RUNNING').length
    : batches.reduce((sum, batch) => sum + batch.running, 0);
  const broken = invariants?.filter(({ holds }) => !holds).length;
  const waiting = figures
    ? (figures.unsent ?? 0) + (figures.callbacksPending ?? 0)
    : batches.filter(({ result }) => result === null).length;
  const givenUp = figures
    ? (figures.dead ?? 0) + (figures.callbacksGivenUp ?? 0)
    : batches.reduce((sum, { slots }) => sum + (slots.EXPIRED ?? 0), 0);
  return (
    <dl id="strip">
      <div>
        <dt>Machines running</dt>
        <dd id="strip-running">
          {count(running)}
          <small> of {machines ? count(machines.length) : `${count(now.tenant?.usedSlots ?? 0)} ordered`}</small>
        </dd>
      </div>
      {invariants ? (
        <div data-bad={broken !== 0}>
          <dt>Invariants</dt>
          <dd id="strip-invariants">
            {broken === 0 ? `${invariants.length} hold` : `${broken} broken`}
            <small>{broken === 0 ? 'all of them' : 'see the overview'}</small>
          </dd>
        </div>
      ) : null}
      <div>
        <dt>Waiting</dt>
        <dd id="strip-waiting">
          {count(waiting)} <small>{figures ? 'messages and callbacks' : 'orders'}</small>
        </dd>
      </div>
      <div data-bad={givenUp > 0}>
        <dt>Given up</dt>
        <dd id="strip-given-up">
          {count(givenUp)} <small>{figures ? 'messages and callbacks' : 'slots'}</small>
        </dd>
      </div>
    </dl>
  );
}
