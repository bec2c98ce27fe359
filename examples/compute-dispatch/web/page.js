// The state comes whole over server-sent events; only what differs is touched.
const byId = (id) => document.getElementById(id);
const form = byId('apply');
const nextOrder = () => `order-${new Date().toISOString().slice(11, 23).replaceAll(/[:.]/g, '')}`;
form.businessOrderNo.value = nextOrder();

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const data = new FormData(form);
  const body = {
    businessOrderNo: data.get('businessOrderNo'),
    packageId: data.get('packageId'),
    count: Number(data.get('count')),
    minimum: Number(data.get('minimum')),
    applyDurationMinutes: Number(data.get('applyDurationMinutes') || 0),
  };
  const answer = byId('answer');
  try {
    const response = await fetch('v1/batches', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const result = await response.json();
    answer.className = response.ok ? '' : 'error';
    answer.textContent = response.ok ? `Accepted as batch ${result.id}.` : `${result.title}: ${result.detail}`;
    if (response.ok) form.businessOrderNo.value = nextOrder();
  } catch {
    answer.className = 'error';
    answer.textContent = 'The service did not answer. Send the same order again: it is accepted once.';
  }
});

/** What the lower sections show. */
const chosen = { batch: undefined, slot: undefined };

const live = new EventSource('live');
live.onopen = () => {
  byId('touch').textContent = 'live';
};
live.onerror = () => {
  byId('touch').textContent = 'out of touch, trying again …';
};
live.onmessage = ({ data }) => {
  const { machines, batches, messages, scan } = JSON.parse(data);
  showRoom(machines);
  showMessages(messages);
  showScan(scan);
  showBatches(batches);
  if (chosen.batch) void showSlots();
};

function showRoom(machines) {
  const room = byId('room');
  const count = { FREE: 0, LEASED: 0, RUNNING: 0, DOWN: 0 };
  while (room.children.length < machines.length) room.append(document.createElement('li'));
  while (room.children.length > machines.length) room.lastChild.remove();
  machines.forEach((machine, i) => {
    count[machine.state] += 1;
    const item = room.children[i];
    if (item.dataset.state === machine.state) return;
    item.dataset.state = machine.state;
    item.title = `${machine.id}, ${machine.packageId}: ${machine.state.toLowerCase()}`;
    item.setAttribute('aria-label', item.title);
  });
  byId('legend').textContent =
    `${count.RUNNING} running (filled), ${count.LEASED} leased (striped), ${count.FREE} free, ${count.DOWN} out of service (dashed)`;
}

function showMessages(messages) {
  for (const [name, value] of Object.entries(messages)) byId(`messages-${name}`).textContent = value.toLocaleString('en');
}

byId('scan').addEventListener('submit', async (event) => {
  event.preventDefault();
  const answer = byId('scan-answer');
  answer.textContent = '';
  const response = await fetch('v1/invoice-scan', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ databases: new FormData(event.target).get('databases') }),
  }).catch(() => undefined);
  answer.className = response?.ok ? '' : 'error';
  if (!response) answer.textContent = 'The service did not answer.';
  else if (!response.ok) answer.textContent = (await response.json()).detail;
});

function showScan({ pass, startedAt, endedAt, units }) {
  const at = (time) => new Date(time).toLocaleTimeString();
  if (pass !== '0')
    byId('scan-pass').textContent =
      `Pass ${pass}, begun ${at(startedAt)}, ${endedAt ? `ended ${at(endedAt)}` : 'under way'}: ${sum(units, 'scanned')} scanned, ${sum(units, 'matched')} not sent, ${sum(units, 'handled')} sent again.`;
  const list = byId('units');
  while (list.children.length > units.length) list.lastChild.remove();
  units.forEach((unit, i) => {
    const text = JSON.stringify(unit);
    const known = list.children[i];
    if (known?.dataset.unit === text) return;
    const item = document.createElement('li');
    item.dataset.unit = text;
    item.dataset.state = unit.state;
    const whole = unit.scanned + (unit.remaining ?? 0);
    const bar = Object.assign(document.createElement('progress'), {
      max: Math.max(1, whole),
      value: unit.state === 'done' ? Math.max(1, whole) : unit.scanned,
    });
    bar.setAttribute('aria-label', `${unit.unit}: ${unit.state}`);
    const name = Object.assign(document.createElement('strong'), { textContent: unit.unit });
    item.append(name, bar, unit.error ?? `${unit.scanned.toLocaleString('en')} scanned, ${unit.handled} sent again`);
    if (known) known.replaceWith(item);
    else list.append(item);
  });
}

function sum(list, name) {
  return list.reduce((total, one) => total + one[name], 0).toLocaleString('en');
}

function showBatches(batches) {
  byId('none').hidden = batches.length > 0;
  byId('batches').replaceChildren(
    ...batches.map((batch) => {
      const row = document.createElement('tr');
      row.dataset.order = batch.businessOrderNo;
      const progress = Object.assign(document.createElement('progress'), { max: batch.count, value: batch.granted });
      progress.setAttribute('aria-label', `${batch.granted} of ${batch.count} granted`);
      const granted = cell('');
      granted.append(progress, `${batch.granted} / ${batch.count}`);
      const order = cell('');
      order.append(button(batch.businessOrderNo, `slots of ${batch.businessOrderNo}`, () => choose(batch)));
      row.append(
        order,
        cell(batch.packageId),
        granted,
        cell(batch.state),
        cell(batch.deadline ? new Date(batch.deadline).toLocaleTimeString() : 'first pass'),
      );
      return row;
    }),
  );
}

function cell(text) {
  const td = document.createElement('td');
  td.textContent = text;
  return td;
}

async function get(path) {
  const response = await fetch(path);
  return response.ok ? response.json() : undefined;
}

async function choose(batch) {
  chosen.batch = batch;
  chosen.slot = undefined;
  await showSlots();
  byId('slots-section').scrollIntoView({ block: 'nearest' });
}

async function showSlots() {
  const { batch, slot } = chosen;
  const result = await get(`v1/batches/${batch.id}/slots`);
  if (!result || chosen.batch !== batch) return;
  byId('slots-section').hidden = false;
  byId('slots-title').textContent = `Slots of ${batch.businessOrderNo}`;
  const rows = byId('slots');
  // Rows are kept, so that a button that has the focus keeps it.
  while (rows.children.length > result.slots.length) rows.lastChild.remove();
  result.slots.forEach((one, i) => {
    const known = rows.children[i];
    const text = JSON.stringify(one);
    if (known?.dataset.slot === text) return;
    const row = document.createElement('tr');
    row.dataset.slot = text;
    const log = cell('');
    log.append(
      button('log', `callbacks of slot ${one.applyId}`, () => {
        chosen.slot = one.applyId;
        byId('resent').textContent = '';
        return showCallbacks();
      }),
    );
    row.append(cell(one.applyId), cell(one.machineId ?? '–'), cell(one.state), cell(one.power ?? '–'), log);
    if (known) known.replaceWith(row);
    else rows.append(row);
  });
  if (slot) await showCallbacks();
  else byId('callbacks-section').hidden = true;
}

async function showCallbacks() {
  const { slot } = chosen;
  const result = await get(`v1/slots/${slot}/callbacks`);
  if (!result || chosen.slot !== slot) return;
  byId('callbacks-section').hidden = false;
  byId('callbacks-title').textContent = `Callbacks of slot ${slot}`;
  byId('callbacks-none').hidden = result.callbacks.length > 0;
  const list = byId('callbacks');
  const text = JSON.stringify(result.callbacks);
  if (list.dataset.shown === text) return;
  list.dataset.shown = text;
  list.replaceChildren(
    ...result.callbacks.map((callback) => {
      const item = document.createElement('li');
      const head = document.createElement('p');
      head.className = 'head';
      const state = Object.assign(document.createElement('strong'), { textContent: callback.says });
      const next = callback.nextAt ? `, next at ${new Date(callback.nextAt).toLocaleTimeString()}` : '';
      head.append(
        state,
        ` ${callback.state.toLowerCase()}${next} `,
        button('resend', `resend ${callback.says}`, () => resend(callback)),
      );
      const attempts = document.createElement('ul');
      attempts.append(...callback.attempts.map(attemptItem));
      item.append(head, attempts);
      return item;
    }),
  );
}

function attemptItem(attempt) {
  const item = document.createElement('li');
  item.dataset.outcome = attempt.outcome;
  const took = attempt.durationMs === null ? '' : ` in ${attempt.durationMs} ms`;
  const status = attempt.httpStatus === null ? (attempt.errorCode ?? '') : `HTTP ${attempt.httpStatus}`;
  const why = attempt.outcome === 'delivered' ? '' : ` ${attempt.snippet ?? ''}`.slice(0, 160);
  item.textContent = `${attempt.number}. ${new Date(attempt.at).toLocaleTimeString()} ${attempt.outcome} ${status}${took}${attempt.trigger === 'auto' ? '' : `, ${attempt.trigger}`}${why}`;
  return item;
}

async function resend(callback) {
  const response = await fetch(`v1/callbacks/${callback.id}/resend`, { method: 'POST' });
  byId('resent').textContent = response.ok ? `${callback.says} is sent again.` : 'It could not be sent again.';
  await showCallbacks();
}

function button(text, label, onClick) {
  const made = Object.assign(document.createElement('button'), { type: 'button', className: 'small', textContent: text });
  made.setAttribute('aria-label', label);
  made.addEventListener('click', () => void onClick());
  return made;
}
