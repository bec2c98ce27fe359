import { useEffect, useRef, useState } from 'preact/hooks';
import { ask } from './api.ts';

/**
 * What the service answers at `path`, asked again whenever `version` changes. One request at a time: changes that come meanwhile are one
 * more request. An answer for another path is dropped, so that a late one never replaces a newer one.
 */
export function useAnswer<Body>(path: string | undefined, version: unknown): Body | undefined {
  const [answer, setAnswer] = useState<{ readonly path: string; readonly body: Body }>();
  const latest = useRef({ path: '', busy: false, again: false });
  useEffect(() => {
    if (path === undefined || version === undefined) return;
    if (latest.current.busy && latest.current.path === path) {
      latest.current.again = true;
      return;
    }
    const own = { path, busy: true, again: false };
    latest.current = own;
    void (async () => {
      do {
        own.again = false;
        const { body } = await ask<Body>('GET', path);
        if (latest.current !== own) return;
        if (body !== undefined) setAnswer({ path, body });
      } while (own.again);
      own.busy = false;
    })();
  }, [path, version]);
  return answer?.path === path ? answer?.body : undefined;
}
