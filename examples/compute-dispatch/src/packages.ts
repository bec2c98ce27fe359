/** What a customer can order. */
export const packages: Readonly<Record<string, { readonly cpu: number; readonly memoryGiB: number; readonly gpu: string | null }>> = {
  standard: { cpu: 8, memoryGiB: 16, gpu: null },
  graphics: { cpu: 16, memoryGiB: 64, gpu: 'RTX 4080' },
};
