import { snapshot } from './state.ts';

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
    <section aria-labelledby="room-title" class="roomy">
      <h2 id="room-title">Machines</h2>
      <ul id="legend" aria-label="how many machines are in which state">
        {(Object.keys(shown) as MachineState[]).map((state) => (
          <li key={state}>
            <span class="swatch" data-state={state} aria-hidden="true" />
            {shown[state]} <strong>{counts.get(state) ?? 0}</strong>
          </li>
        ))}
      </ul>
      <ul id="room" aria-label="machines">
        {machines.map(({ id, packageId, state }) => {
          const says = `${id}, ${packageId}: ${shown[state as MachineState] ?? state.toLowerCase()}`;
          return <li key={id} data-state={state} title={says} aria-label={says} />;
        })}
      </ul>
    </section>
  );
}
