import { recordedNames, runningRecord, stopRecorded } from './process-record.ts';
import { knownServices, startServices } from './services.ts';

const [command] = process.argv.slice(2);
if (command === 'up') {
  const { results, environment } = await startServices({
    skip: new Set((process.env.HOLDFAST_SKIP ?? '').split(',')),
    log: (line) => console.log(line),
  });
  for (const [name, url] of Object.entries(environment)) console.log(`export ${name}=${url}`);
  process.exit(results.some((result) => result.state === 'missing') ? 1 : 0);
} else if (command === 'down') {
  await Promise.all(knownServices.map((service) => stopRecorded(service.name, service.stopSignal)));
  // Also servers of other lanes, and scratch servers that a killed test run left behind.
  await Promise.all(recordedNames().map((name) => stopRecorded(name, 'SIGTERM')));
  console.log('stopped');
} else if (command === 'status') {
  for (const service of knownServices) {
    const record = runningRecord(service.name);
    console.log(`${service.name.padEnd(12)} ${record ? `pid ${record.pid}  ${service.url(record.port)}` : 'not running'}`);
  }
} else {
  console.error('usage: npm run services:up | services:down | services:status');
  process.exit(2);
}
