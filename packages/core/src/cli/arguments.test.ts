import { expect, it } from 'vitest';
import { readArguments, UsageError, usage } from './arguments.ts';

it('reads each option that the usage of its command shows, and refuses every other one', () => {
  const all = [...new Set([...usage.matchAll(/--[a-z-]+/g)].map(([option]) => option))];
  const filter = ['--status', '--kind', '--type', '--key', '--subject', '--tenant'];
  for (const name of ['migrate', 'sql', 'status', 'list', 'redrive', 'run']) {
    const own = new RegExp(`^ {2}${name}\\b[^\\n]*(\\n( {2}${name}\\b| {3})[^\\n]*)*`, 'm').exec(usage)?.[0] ?? '';
    expect(own, name).not.toBe('');
    for (const option of all) {
      const takes = option === '--config' || own.includes(option) || (own.includes('FILTER') && filter.includes(option));
      const read = () => readArguments(option === '--dry-run' ? [name, option] : [name, `${option}=x`]);
      if (takes) expect(read().command, option).toBe(name);
      else expect(read, `${name} ${option}`).toThrow(UsageError);
    }
  }
});
