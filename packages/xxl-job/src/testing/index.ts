export { type AdminDouble, adminDouble, type Callback, type Registration, type TriggerOptions } from './admin-double.ts';
