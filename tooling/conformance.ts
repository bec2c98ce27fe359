// `npm run conformance -- --kubeconfig F [--namespace N] [--image I] [--only TEXT]`: the executors' contract on a real cluster. The namespace
// must exist, with the objects of packages/code-runner/deploy. The run removes what it creates there.

import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { kubernetes } from '@holdfast/code-runner/kubernetes';
import { executorContract } from '@holdfast/code-runner/testing';

const usage =
  'usage: npm run conformance -- --kubeconfig FILE [--namespace holdfast-runs] [--image busybox:1.37] [--runtime-class C] [--only TEXT]';
const { values } = parseArgs({
  options: {
    kubeconfig: { type: 'string' },
    namespace: { type: 'string', default: 'holdfast-runs' },
    image: { type: 'string', default: 'busybox:1.37' },
    'runtime-class': { type: 'string' },
    only: { type: 'string' },
  },
});
if (values.kubeconfig === undefined) {
  console.error(usage);
  process.exit(2);
}
const kubeConfig = values.kubeconfig;
const tests: { readonly name: string; readonly test: () => Promise<void>; readonly timeoutMs: number }[] = [];
const connect = () =>
  kubernetes({
    namespace: values.namespace,
    kubeConfig,
    // A prefix of its own, apart from other runs in the namespace.
    instance: `conformance-${process.pid}`,
    ...(values['runtime-class'] ? { runtimeClassName: values['runtime-class'] } : {}),
  });
try {
  console.log((await connect().probe()).summary);
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}
executorContract(
  { connect, image: values.image, startMs: 120_000 },
  {
    it: (name, test, timeoutMs = 60_000) => tests.push({ name, test, timeoutMs }),
    equal: (actual, expected) => assert.deepEqual(actual, expected),
  },
);
let failed = 0;
let passed = 0;
for (const { name, test, timeoutMs } of tests) {
  if (values.only !== undefined && !name.includes(values.only)) continue;
  const started = performance.now();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    await Promise.race([test(), late]);
    passed += 1;
    console.log(`ok    ${name} (${Math.round(performance.now() - started)} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}\n      ${(error as Error).message.split('\n').slice(0, 12).join('\n      ')}`);
  } finally {
    clearTimeout(timer);
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
