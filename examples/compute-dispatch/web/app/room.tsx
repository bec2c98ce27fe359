import { type Snapshot, snapshot } from './state.ts';

/** States of a machine, in the order of the legend. */
const shown = {
  RUNNING: 'running',
  STARTING: 'starting',
  GRANTED: 'granted',
  HELD: 'reserved',
  RELEASING: 'being released',
  FREE: 'free',
  DOWN: 'out of service',
} as const;
type MachineState = keyof typeof shown;

export function Room() {
  const machines = snapshot.value?.machines;
  if (!machines) return null;
  const counts = new Map<string, number>();
  for (const { state } of machines) counts.set(state, (counts.get(state) ?? 0) + 1);
  return (
    <section aria-labelledby="room-title">
      <h2 id="room-title">Machines</h2>
      <ul id="legend" aria-label="how many machines are in which state">
        {(Object.keys(shown) as MachineState[]).map((state) => (
          <li key={state}>
            <span class="swatch" data-state={state} aria-hidden="true" />
            {shown[state]} <strong>{counts.get(state) ?? 0}</strong>
          </li>
        ))}
      </ul>
      <div id="room">
        {[...new Set(machines.map(({ packageId }) => packageId))].map((packageId) => (
          <Group key={packageId} packageId={packageId} machines={machines.filter((one) => one.packageId === packageId)} />
        ))}
      </div>
    </section>
  );
}

type Machines = NonNullable<Snapshot['machines']>;

/** The machines of one package: a tile each. */
function Group({ packageId, machines }: { readonly packageId: string; readonly machines: Machines }) {
  const free = machines.filter(({ state }) => state === 'FREE').length;
  return (
    <>
      <h3>
        {packageId.charAt(0).toUpperCase() + packageId.slice(1)} <small>{`${free} of ${machines.length} free`}</small>
      </h3>
      <ul aria-label={`machines of ${packageId}`}>
        {machines.map(({ id, state }) => {
          const says = `${id}, ${packageId}: ${shown[state as MachineState] ?? state.toLowerCase()}`;
          return <li key={id} data-state={state} title={says} aria-label={says} />;
        })}
      </ul>
    </>
  );
}
