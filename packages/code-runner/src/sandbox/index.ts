export { type LocalSandboxOptions, localSandbox } from './local-sandbox.ts';
