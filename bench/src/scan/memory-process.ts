/** One pass in a process of its own; prints its peak of resident memory. Arguments: addresses of the two databases. */
import { connectTestDatabase } from '@holdfast/core/testing';
import { createTopology } from '@holdfast/sharded-scan';
import { scanOf } from './contestants.ts';

const [first = '', second = ''] = process.argv.slice(2);
const [one, two] = [connectTestDatabase(first), connectTestDatabase(second)];
const scan = scanOf(createTopology({ databases: { '01': one, '02': two }, tables: 4 }), one, () => undefined);
await scan.run();
console.log(process.resourceUsage().maxRSS / 1_024);
await scan.close();
await one.destroy();
await two.destroy();
