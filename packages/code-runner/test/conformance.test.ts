import { existsSync } from 'node:fs';
import { silentLogger } from '@holdfast/core';
import { KubeConfig } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kubernetes } from '../src/kubernetes/index.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { type ContractApi, executorContract, type KubernetesDouble, kubernetesDouble } from '../src/testing/index.ts';
import { tls } from './tls.ts';

const api: ContractApi = {
  it: (name, test, timeoutMs) => it(name, test, timeoutMs),
  equal: (actual, expected) => expect(actual).toEqual(expected),
};

describe.runIf(existsSync('/usr/bin/bwrap'))('the local sandbox', () => {
  executorContract({ connect: () => localSandbox({ killAfterMs: 300 }) }, api);
});

describe.runIf(existsSync('/usr/bin/bwrap'))('Kubernetes, the API server by the double', () => {
  let double: KubernetesDouble;
  beforeAll(async () => {
    double = await kubernetesDouble({ sandbox: localSandbox({ killAfterMs: 300 }), ...(await tls()) });
  });
  afterAll(() => double.close());
  executorContract(
    {
      connect: () => {
        const kubeConfig = new KubeConfig();
        kubeConfig.loadFromString(double.kubeConfig());
        return kubernetes({ namespace: double.namespace, kubeConfig, idle: 2_000, logger: silentLogger });
      },
    },
    api,
  );
});
