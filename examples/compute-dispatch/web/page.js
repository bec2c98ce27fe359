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

const live = new EventSource('live');
live.onopen = () => {
  byId('touch').textContent = 'live';
};
live.onerror = () => {
  byId('touch').textContent = 'out of touch, trying again …';
};
live.onmessage = ({ data }) => {
  const { machines, batches, messages } = JSON.parse(data);
  showRoom(machines);
  showMessages(messages);
  showBatches(batches);
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
      row.append(
        cell(batch.businessOrderNo),
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
