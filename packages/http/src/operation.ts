/** A media type, as in `application/zip`. */
export type MediaType = `${string}/${string}`;

/** One operation of an API: where it is served, and what the OpenAPI document says about it. */
export interface Operation<Id extends string = string, SchemaName extends string = string> {
  /** Unique within the API: the `operationId` of the document, and the name of the handler. */
  readonly id: Id;
  readonly method: 'get' | 'post' | 'put' | 'patch' | 'delete';
  /** The path below `basePath`, with its parameters in braces: `/tasks/{taskId}`. */
  readonly path: string;
  /** One line for people. */
  readonly summary: string;
  /** Optional query parameters, each with its description. */
  readonly query?: Readonly<Record<string, string>>;
  /** Query parameters that every request needs, each with its description. */
  readonly requiredQuery?: Readonly<Record<string, string>>;
  /** Optional request headers, each with its description. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The request body: the name of a schema for JSON, or a media type for bytes. Default: no body. */
  readonly body?: SchemaName | MediaType;
  /** True if a request may come without its body. Default `false`. */
  readonly bodyOptional?: boolean;
  /**
   * The largest body of this operation, in bytes; a larger one is refused with 413. Default: `maxBodyBytes` of the API for JSON, and no
   * limit for bytes, which the handler reads as a stream and has to bound itself.
   */
  readonly maxBodyBytes?: number;
  /** The body of a successful response: the name of a schema for JSON, or a media type for bytes. Default: no body. */
  readonly response?: SchemaName | MediaType;
  /** The status of a successful response. Default 200. */
  readonly status?: number;
}

/** Returns whether a body or response of an operation is bytes of a media type, rather than JSON of a named schema. */
export function isMediaType(content: string): content is MediaType {
  return content.includes('/');
}
