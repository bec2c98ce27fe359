import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { root } from '../paths.ts';
import { freePort, serviceFolder, startDetached } from './process-record.ts';
import type { Service } from './service.ts';

const clusterId = 'aG9sZGZhc3QtY2x1c3Rlcg';

export const kafka: Service = {
  name: 'kafka',
  variable: 'HOLDFAST_KAFKA_BROKERS',
  packages: ['maven', 'default-jdk-headless'],
  binaries: ['/usr/bin/mvn', '/usr/bin/java'],
  stopSignal: 'SIGTERM',
  url: (port) => `127.0.0.1:${port}`,
  async start(port, name) {
    const folder = serviceFolder(name);
    const jars = fetchJars(serviceFolder('kafka'));
    const data = join(folder, 'data');
    const controller = await freePort();
    const properties = join(folder, 'server.properties');
    writeFileSync(
      properties,
      [
        'process.roles=broker,controller',
        'node.id=1',
        `controller.quorum.voters=1@127.0.0.1:${controller}`,
        `listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}`,
        `advertised.listeners=PLAINTEXT://127.0.0.1:${port}`,
        'listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT',
        'controller.listener.names=CONTROLLER',
        'inter.broker.listener.name=PLAINTEXT',
        `log.dirs=${data}`,
        'num.partitions=4',
        'offsets.topic.replication.factor=1',
        'offsets.topic.num.partitions=4',
        'transaction.state.log.replication.factor=1',
        'transaction.state.log.min.isr=1',
        'transaction.state.log.num.partitions=4',
        'group.initial.rebalance.delay.ms=0',
        'auto.create.topics.enable=true',
        '',
      ].join('\n'),
    );
    const java = [
      '-Xmx512m',
      '-Xms256m',
      '-XX:+UseSerialGC',
      `-Dlog4j2.configurationFile=${join(root, 'tooling', 'services', 'kafka', 'log4j2.xml')}`,
      '-cp',
      join(jars, '*'),
    ];
    if (!existsSync(join(folder, 'ready'))) {
      rmSync(data, { recursive: true, force: true });
      execFileSync('java', [...java, 'kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', properties], { stdio: 'ignore' });
      writeFileSync(join(folder, 'ready'), '');
    }
    startDetached(name, port, 'java', [...java, 'kafka.Kafka', properties]);
  },
  async roundTrip(url) {
    const client = new kafkajs.Kafka({
      clientId: 'holdfast-check',
      brokers: [url],
      logLevel: kafkajs.logLevel.NOTHING,
      retry: { retries: 0 },
      connectionTimeout: 2000,
    });
    const topic = `holdfast-check-${process.pid}-${Date.now()}`;
    const admin = client.admin();
    const producer = client.producer();
    const consumer = client.consumer({ groupId: topic, maxWaitTimeInMs: 50, retry: { retries: 3 } });
    try {
      await admin.connect();
      await admin.createTopics({ topics: [{ topic, numPartitions: 1 }], waitForLeaders: true });
      await producer.connect();
      await producer.send({ topic, messages: [{ value: 'ok' }] });
      await consumer.connect();
      await consumer.subscribe({ topic, fromBeginning: true });
      const value = await new Promise<string | undefined>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error('the message sent was not received within 20 s')), 20_000);
        consumer
          .run({
            eachMessage: async ({ message }) => {
              clearTimeout(timer);
              resolve(message.value?.toString());
            },
          })
          .catch(reject);
      });
      if (value !== 'ok') throw new Error('another message was received than was sent');
      await consumer.disconnect();
      await admin.deleteTopics({ topics: [topic] });
    } finally {
      await Promise.allSettled([consumer.disconnect(), producer.disconnect(), admin.disconnect()]);
    }
  },
};

/** Fetches the broker's jars by Maven into `.services/kafka/jars-<version>`, completely or not at all. */
function fetchJars(folder: string): string {
  const pom = join(root, 'tooling', 'services', 'kafka', 'pom.xml');
  const version = /kafka_2\.13<\/artifactId><version>([^<]+)</.exec(readFileSync(pom, 'utf8'))?.[1] ?? 'unknown';
  const jars = join(folder, `jars-${version}`);
  if (existsSync(jars)) return jars;
  const partial = `${jars}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  execFileSync('mvn', ['-q', '-B', '-f', pom, 'dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${partial}`], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  renameSync(partial, jars);
  return jars;
}
