/** A fault, and the promise that must hold under it. */
export interface Fault {
  readonly id: string;
  readonly part: string;
  readonly fault: string;
  readonly holds: string;
}

/** The faults that the packages survive. F28 and F29 are reserved for a scheduler, which does not exist yet. */
export const faults: readonly Fault[] = [
  {
    id: 'F1',
    part: 'outbox relay',
    fault: 'SIGKILL at every checkpoint and at random',
    holds: '0 lost; repeats only between publish and delete; order per key',
  },
  { id: 'F2', part: 'outbox write', fault: 'the caller dies in its transaction', holds: 'a message if and only if its row' },
  {
    id: 'F3',
    part: 'outbox, task, notifier',
    fault: 'the reply to COMMIT is lost; tried again after the first was done and deleted',
    holds: 'the same id: one message, one task, one notification',
  },
  { id: 'F4', part: 'outbox', fault: 'a low id commits late', holds: 'none is skipped' },
  { id: 'F5', part: 'outbox to Kafka', fault: 'broker frozen, killed, acks lost', holds: '0 lost; order kept' },
  { id: 'F6', part: 'outbox to RabbitMQ', fault: 'confirm lost, blocked, unroutable', holds: 'unsent stays unsent; memory flat' },
  { id: 'F7', part: 'inbox', fault: 'each message 1 to 5 times over 4 consumers', holds: '0 duplicated effects' },
  { id: 'F8', part: 'inbox', fault: 'killed between effect and ack', holds: '0 lost, 0 duplicated' },
  { id: 'F9', part: 'consumer', fault: 'a handler outlives the poll interval; members join and leave', holds: '0 lost; progress' },
  { id: 'F10', part: 'inbox', fault: 'pruning against a late duplicate', holds: 'counted, set aside' },
  {
    id: 'F11',
    part: 'task',
    fault: 'worker SIGKILL at every checkpoint and at random',
    holds: 'retaken within lease + 5 s; nothing lost, one effect',
  },
  { id: 'F12', part: 'task', fault: 'SIGSTOP past the lease, SIGCONT (a zombie)', holds: 'a stale settle changes 0 rows' },
  { id: 'F13', part: 'task', fault: 'only the path of the heartbeat is cut', holds: 'as F12' },
  { id: 'F14', part: 'task', fault: 'a handler ends its process', holds: 'dead after N starts; its neighbours run' },
  {
    id: 'F15',
    part: 'all SQL',
    fault: 'every session ended in mid-statement every 200 ms',
    holds: 'the host lives; 0 lost; heals within 5 s',
  },
  { id: 'F16', part: 'all SQL', fault: 'the database killed and started again', holds: 'as F15' },
  {
    id: 'F17',
    part: 'all SQL',
    fault: 'network stalls, stalls one way, half-closes, resets in a reply, refuses',
    holds: 'bounded by the configured time-out; no loop hangs',
  },
  { id: 'F18', part: 'all SQL', fault: 'deadlock, serialization failure, lock time-out', holds: 'tried again; nothing half done' },
  { id: 'F19', part: 'all SQL', fault: 'disk full, then freed', holds: 'errors, no false success; recovers' },
  { id: 'F20', part: 'Redis', fault: 'killed, frozen', holds: 'only speed is lost; what was acked is kept' },
  {
    id: 'F21',
    part: 'webhook',
    fault: 'effect done, the answer lost; workers killed and frozen',
    holds: 'tried again: same id, same bytes',
  },
  {
    id: 'F22',
    part: 'webhook',
    fault: 'slow, huge, endless, broken, redirecting receivers',
    holds: 'bounded time and memory; the right outcome',
  },
  { id: 'F23', part: 'webhook', fault: 'redirect and DNS rebinding to private addresses', holds: 'blocked before a byte is sent' },
  { id: 'F24', part: 'webhook', fault: 'one dead endpoint, 10,000 queued', holds: "others' p99 within 2 x" },
  { id: 'F25', part: 'webhook', fault: 'keys rotated between attempts', holds: 'the old or the new key verifies' },
  {
    id: 'F26',
    part: 'scan',
    fault: 'killed in mid-batch, frozen, instances come and go',
    holds: 'each row at least once; one live owner per epoch',
  },
  { id: 'F27', part: 'scan', fault: 'rows change during the pass', holds: 'none is skipped' },
  {
    id: 'F30',
    part: 'runner',
    fault: 'create succeeded, its reply lost; 409; watch 410; eviction; worker killed',
    holds: 'at most one live Job per attempt; no orphan after a sweep',
  },
  {
    id: 'F31',
    part: 'runner',
    fault: 'stop races start and completion; log stream cut',
    holds: 'one terminal state; slot returned; log complete',
  },
  { id: 'F32', part: 'reference service', fault: 'all of it mixed: 4 processes, 2 tenants, 3 servers', holds: 'its ten invariants' },
];
