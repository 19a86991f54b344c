// Calls the public API as any page may: Connect's JSON over fetch. Everything shown is set as text, never as markup.
const call = async (method, body = {}) => {
  const response = await fetch(`/baton.v1.${method}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message ?? response.statusText);
  return answer;
};

const word = (state) => state?.replace(/^[A-Z]+_STATE_/, '').toLowerCase() ?? '';
const glyphs = { succeeded: '✓', failed: '✗', cancelled: '⊘', running: '▶', leased: '▶', idle: '○', busy: '●' };
const withGlyph = (state) => `${glyphs[word(state)] ?? '·'} ${word(state)}`;
const time = (text) => (text ? new Date(text).toLocaleTimeString() : '');

function table(id, head, rows, empty) {
  const place = document.getElementById(id);
  if (rows.length === 0) {
    const p = document.createElement('p');
    p.className = 'empty';
    p.textContent = empty;
    place.replaceChildren(p);
    return;
  }
  const element = document.createElement('table');
  const line = (cells, tag) => {
    const tr = element.insertRow();
    for (const cell of cells) {
      const td = document.createElement(tag);
      td.textContent = cell;
      tr.append(td);
    }
  };
  line(head, 'th');
  for (const row of rows) line(row, 'td');
  place.replaceChildren(element);
}

async function show() {
  const status = document.getElementById('status');
  try {
    const [info, runs, workers, tasks] = await Promise.all([
      call('SystemService/GetInfo'),
      call('WorkflowService/ListRuns', { pageSize: 10 }),
      call('SystemService/ListWorkers'),
      call('TaskService/ListTasks', { pageSize: 20 }),
    ]);
    status.textContent = `✓ version ${info.version}, PostgreSQL ${info.postgresVersion}`;
    table(
      'runs',
      ['run', 'workflow', 'state', 'nodes', 'started', 'ended'],
      (runs.runs ?? []).map((r) => [
        r.id,
        r.workflowName,
        withGlyph(r.state),
        `${r.nodesSucceeded ?? 0}/${r.nodesTotal ?? 0}`,
        time(r.startTime),
        time(r.endTime),
      ]),
      'No runs yet: baton run start FILE',
    );
    table(
      'workers',
      ['worker', 'state', 'leases', 'slots', 'kinds'],
      (workers.workers ?? []).map((w) => [
        w.name,
        withGlyph(w.state),
        w.leases ?? 0,
        w.capabilities?.slots ?? '',
        (w.capabilities?.kinds ?? []).join(', '),
      ]),
      'No workers: baton worker',
    );
    table(
      'tasks',
      ['task', 'kind', 'queue', 'state', 'attempt', 'worker', 'created'],
      (tasks.tasks ?? []).map((t) => [
        t.id,
        t.kind,
        t.queue,
        withGlyph(t.state),
        t.attempt ?? 0,
        t.worker ?? '',
        time(t.createTime),
      ]),
      'No tasks yet: baton task submit KIND',
    );
  } catch (error) {
    status.textContent = `✗ ${error.message}`;
  }
  setTimeout(show, 2000);
}

show();
