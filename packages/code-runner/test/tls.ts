import selfsigned from 'selfsigned';

let made: Promise<{ readonly key: string; readonly cert: string }> | undefined;

/** A key and a certificate for this machine, made for this process. */
export function tls(): Promise<{ readonly key: string; readonly cert: string }> {
  made ??= selfsigned
    .generate([{ name: 'commonName', value: '127.0.0.1' }], {
      keyType: 'ec',
      extensions: [
        { name: 'basicConstraints', cA: true },
        {
          name: 'subjectAltName',
          altNames: [
            { type: 7, ip: '127.0.0.1' },
            { type: 2, value: 'localhost' },
          ],
        },
      ],
    } as never)
    .then(({ private: key, cert }: { private: string; cert: string }) => ({ key, cert }));
  return made;
}
