import { ask, get, url } from './api.js';
import { byId, isTurn, now, thisTurn } from './bench.js';
import { save } from './files.js';
import { createLog } from './log.js';
import { newestFirst } from './newest.js';
import { showRow, states } from './run-row.js';

const log = createLog(byId('log'));
// It scrolls, so the keyboard must reach it.
byId('log').tabIndex = 0;

/** The run whose log is shown, the one of this task that has not ended, and the stream of the former. */
const view = { ready: false, shown: undefined, live: undefined, source: undefined, beganAt: undefined };
const ended = ({ state }) => state >= 3;

/** Run starts a run of the task that is shown, and Stop ends the one of that task that has not ended, whichever log is shown. */
function showButtons() {
  byId('run').disabled = !view.ready || view.live !== undefined;
  byId('stop').disabled = view.live === undefined;
}

function leave() {
  view.source?.close();
  view.source = undefined;
}

/** Forgets the runs of a task that is left: nothing of it is shown, and nothing can be stopped, until those of the next are known. */
export function forgetRuns() {
  leave();
  Object.assign(view, { ready: false, shown: undefined, live: undefined, beganAt: undefined });
  log.clear();
  byId('run-state').textContent = byId('run-time').textContent = '';
  delete byId('run-state').dataset.runState;
  byId('runs').replaceChildren();
  byId('runs-none').hidden = false;
  showButtons();
}

/** Lists the runs of the task. Returns them, or `undefined` if another task was chosen meanwhile. */
export async function showRuns() {
  const turn = thisTurn();
  const runs = newestFirst((await get(`/tasks/${now.task.id}/runs?limit=10`)).runs);
  if (!isTurn(turn)) return undefined;
  view.ready = true;
  view.live = runs.find((one) => one.state !== 0 && !ended(one));
  byId('runs-none').hidden = runs.length > 0;
  byId('runs').replaceChildren(...runs.map((one) => showRow(one, () => follow(one))));
  showButtons();
  return runs;
}

export async function beginRuns() {
  const runs = await showRuns();
  if (runs?.[0]) follow(runs[0]);
  else if (runs) byId('run-state').textContent = 'Not run yet.';
}

/** Starts a run with `options`, once edits are saved. */
export async function run(options) {
  const turn = thisTurn();
  if (now.dirty) await save();
  try {
    const { result } = await ask('POST', `/tasks/${now.task.id}/runs`, options);
    if (isTurn(turn)) follow(result);
  } catch (error) {
    if (error.code !== 'live-run' || !isTurn(turn)) throw error;
    const live = await get(`/runs/${error.runId}`);
    if (isTurn(turn)) follow(live);
    throw error;
  }
  if (isTurn(turn)) await showRuns();
}

// What comes of it is told by the run's events.
export const stop = () => view.live && ask('POST', `/runs/${view.live.id}/terminate`);

/** Shows a run from its beginning, and what comes. A browser that loses the stream goes on behind the last event. */
function follow(followed) {
  leave();
  log.clear();
  view.beganAt = undefined;
  view.shown = undefined;
  showState(followed);
  const source = new EventSource(url(`/runs/${followed.id}/events`));
  view.source = source;
  const hear = (name, work) => source.addEventListener(name, ({ data }) => view.source === source && work(data));
  hear('log', (data) => log.append(JSON.parse(data)));
  hear('state', (data) => showState({ ...view.shown, ...JSON.parse(data), id: followed.id }));
  hear('end', () => {
    leave();
    showRuns().catch(() => undefined);
  });
}

function showState(state) {
  const shown = { ...view.shown, ...state };
  view.shown = shown;
  if (!ended(shown) && shown.state !== 0) view.live = shown;
  else if (view.live?.id === shown.id) view.live = undefined;
  if (shown.state === 2) view.beganAt ??= performance.now() - (shown.startedAt ? Math.max(0, Date.now() - shown.startedAt) : 0);
  showButtons();
  const element = byId('run-state');
  element.dataset.runState = shown.state;
  element.textContent = `Run ${shown.id}: ${ended(shown) ? (shown.message ?? states[shown.state]) : shown.phase}`;
  showTime();
}

/** How long the run that is shown has taken until now. */
function showTime() {
  const { shown, beganAt } = view;
  const exact = shown && ended(shown) && shown.startedAt && shown.endedAt ? shown.endedAt - shown.startedAt : undefined;
  const ms = exact ?? (beganAt === undefined || !shown || ended(shown) ? undefined : performance.now() - beganAt);
  if (ms !== undefined) byId('run-time').textContent = `${(ms / 1_000).toFixed(1)} s`;
  else if (beganAt === undefined) byId('run-time').textContent = '';
}

setInterval(showTime, 200);
// A run that goes on behind another log tells nothing here.
setInterval(() => {
  if (view.live && view.shown?.id !== view.live.id) showRuns().catch(() => undefined);
}, 2_000);
