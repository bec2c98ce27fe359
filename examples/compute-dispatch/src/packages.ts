/** What a customer can order. */
export const packages: Readonly<
  Record<string, { readonly cpu: number; readonly memoryGiB: number; readonly gpu: string | null; readonly centsPerHour: number }>
> = {
  standard: { cpu: 8, memoryGiB: 16, gpu: null, centsPerHour: 120 },
  graphics: { cpu: 16, memoryGiB: 64, gpu: 'RTX 4080', centsPerHour: 480 },
};
