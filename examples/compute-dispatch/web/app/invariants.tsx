import { snapshot } from './state.ts';

export function Invariants() {
  const verdicts = snapshot.value?.invariants;
  if (!verdicts) return null;
  const broken = verdicts.filter(({ holds }) => !holds).length;
  return (
    <section aria-labelledby="invariants-title">
      <h2 id="invariants-title">Invariants</h2>
      <p id="invariants-say" role="status" class={broken > 0 ? 'error' : ''}>
        {broken === 0 ? 'All ten hold, asked of the tables every few seconds.' : `${broken} of ten broken.`}
      </p>
      <ul id="invariants">
        {verdicts.map(({ id, rule, holds, detail }) => (
          <li key={id} data-holds={holds}>
            <span class="mark" role="img" aria-label={holds ? 'holds' : 'broken'}>
              {holds ? '✓' : '✗'}
            </span>
            <span>
              <strong>{rule}</strong>
              <small>
                {id}: {detail}
              </small>
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}
