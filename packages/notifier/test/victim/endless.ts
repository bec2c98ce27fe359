// A receiver whose bodies never end, for tests that measure their own memory.

import { hostileReceiver } from '../../src/testing/index.ts';

const { url, port } = await hostileReceiver('endless');
process.send?.({ url, port });
process.on('disconnect', () => process.exit(0));
