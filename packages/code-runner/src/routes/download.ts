import { Readable } from 'node:stream';

/** The content of a file, as an attachment under its own name (RFC 6266). `path` names the file; folders before it are dropped. */
export function download(
  content: Readable,
  path: string,
  headers: Readonly<Record<string, string>> = { 'content-type': 'application/octet-stream' },
): Response {
  const name = encodeURIComponent(path.slice(path.lastIndexOf('/') + 1)).replaceAll(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return new Response(Readable.toWeb(content) as never, {
    headers: {
      ...headers,
      'content-disposition': `attachment; filename*=UTF-8''${name}`,
      // A browser must not show as a page of this service what a program or its author wrote.
      'x-content-type-options': 'nosniff',
    },
  });
}
