export { type Api, type ApiOptions, type Call, createApi, type Handler } from './api.ts';
export { BodyTooLargeError, MalformedBodyError, NoSuchRouteError, UnauthorizedError } from './errors.ts';
export { type EventStreamOptions, eventStream, type ServerSentEvent } from './event-stream.ts';
export { type OpenApiDocument, type OpenApiOptions, openApi } from './open-api.ts';
export type { MediaType, Operation } from './operation.ts';
export { type ProblemDocument, type ProblemStatuses, Problems, type ProblemsOptions, problemMediaType } from './problem.ts';
export { type BodySource, defaultMaxBodyBytes, readBody } from './read-body.ts';
