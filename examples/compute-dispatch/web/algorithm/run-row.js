import { url } from './api.js';

export const states = ['Draft', 'Queued', 'Running', 'Finished', 'Failed', 'Stopped'];
const swatches = ['FREE', 'WAITING', 'STARTING', 'RUNNING', 'DOWN', 'HELD'];

const element = (name, properties = {}, ...content) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...content);
  return made;
};

function pill(state) {
  const swatch = element('span', { className: 'swatch' });
  swatch.dataset.state = swatches[state];
  return element('span', { className: 'pill' }, swatch, states[state]);
}

/** The command as one line; a part with a blank or a sign of the shell stands in quotes. */
function commandLine({ argv, main }) {
  return argv ? argv.map((part) => (/^[\w@%+=:,./-]+$/.test(part) ? part : `'${part}'`)).join(' ') : (main ?? '–');
}

/** The row of one run; its first button shows the log. */
export function showRow(run, show) {
  const row = document.createElement('tr');
  const cell = (label, ...content) => {
    const td = element('td', {}, ...content);
    td.dataset.label = label;
    row.append(td);
  };
  const open = element('button', { type: 'button', className: 'opens', textContent: run.id });
  open.setAttribute('aria-label', `log of run ${run.id}`);
  open.addEventListener('click', show);
  const archive = element('a', { href: url(`/runs/${run.id}/download`), textContent: 'Download' });
  archive.setAttribute('aria-label', `Download results, log and code of run ${run.id}`);
  cell('Run', open);
  cell('State', pill(run.state));
  cell('Took', run.startedAt && run.endedAt ? `${((run.endedAt - run.startedAt) / 1000).toFixed(2)} s` : '–');
  cell('Says', run.message ?? '–');
  cell('Command', commandLine(run));
  cell('Remarks', run.remarks ?? '–');
  cell('Archive', run.state >= 3 ? archive : '–');
  return row;
}
