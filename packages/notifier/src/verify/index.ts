export { InvalidKeyError, InvalidSignatureError } from '../errors.ts';
export type { ParamFlavor, SortedParamsOptions } from '../sign/sorted-params.ts';
export { type ReceivableRequest, type ReceivedWebhook, success, type VerifyOptions, verifyWebhook } from './verify-webhook.ts';
