import type { Service } from '../loop/service.ts';

/**
 * Starts and stops a service from many callers at once, as shutdown paths do, and then disposes it. Rejects if any call does.
 */
export async function startStopStress(
  service: Service,
  options: { readonly callers?: number; readonly cycles?: number } = {},
): Promise<void> {
  await service.stop();
  await Promise.all(
    Array.from({ length: options.callers ?? 10 }, async () => {
      for (let cycle = 0; cycle < (options.cycles ?? 50); cycle++) {
        await service.start();
        await service.stop();
      }
    }),
  );
  await service[Symbol.asyncDispose]();
}
