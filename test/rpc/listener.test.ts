import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { request } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Listener } from '../../server/http/listener.ts';
import { Face } from '../support/face.ts';
import { within } from '../support/wait.ts';

const key = Buffer.from('k');

type Answer = { readonly status: number; readonly headers: object; readonly body: string };

/** `fetch` does not let a program choose its Host. */
function get(url: string, options: { path?: string; method?: string; headers?: object } = {}) {
  return new Promise<Answer>((resolve, reject) => {
    const { path = '/version', method = 'GET', headers = {} } = options;
    const sent = request(url, { path, method, headers: { ...headers } }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => {
        body += chunk;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
      );
    });
    sent.on('error', reject);
    sent.end();
  });
}

test('one port speaks gRPC and HTTP', async () => {
  await using face = await Face.open();
  await face.wire().kv.put({ key });
  const version = await fetch(`${face.url}/version`);
  expect(await version.json()).toEqual({
    etcdserver: expect.stringMatching(/^3\.6\.\d+$/),
    etcdcluster: '3.6.0',
    storage: '3.6.0',
  });
  expect((await fetch(`${face.url}/nothing`)).status).toBe(404);
  expect((await fetch(`${face.url}/version`, { method: 'POST' })).status).toBe(405);
});

test('the preface may come in pieces, and so may a request', async () => {
  await using face = await Face.open();
  const http1 = await face.socket();
  http1.write('PRI');
  http1.write('NT / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const [answer] = await once(http1, 'data');
  expect(String(answer)).toContain('HTTP/1.1 400');

  const pieces = await face.socket();
  const session = connectHttp2(face.url, { createConnection: () => pieces });
  const stream = session.request({ ':path': '/x' });
  const [headers] = await once(stream, 'response');
  expect(headers[':status']).toBe(415);
  session.destroy();

  const slow = await face.socket();
  for (const byte of 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n') slow.write(byte);
  // An empty SETTINGS frame; the server's own comes back.
  slow.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  const [settings] = await once(slow, 'data');
  expect(settings[3]).toBe(4);
});

test('silent connections are closed in the end and disturb nobody until then', async () => {
  await using face = await Face.open({ listener: { silenceMs: 200 } });
  const silent = await Promise.all(Array.from({ length: 200 }, () => face.socket()));
  const closed = Promise.all(silent.map((socket) => once(socket.resume(), 'close')));
  await face.wire().kv.put({ key });
  await within(closed, 5_000, 'closing silent connections');
  const stuck = await face.socket();
  stuck.write('PRI * HT');
  await within(once(stuck.resume(), 'close'), 5_000, 'closing a connection without a full preface');
});

test('a connection reset before it said anything is nobody’s problem', async () => {
  await using face = await Face.open();
  const socket = await face.socket();
  socket.write('P');
  socket.resetAndDestroy();
  await face.wire().kv.put({ key });
});

test.each([
  [{ host: 'evil.example' }, 421],
  [{ host: 'evil.example:2379' }, 421],
  [{ host: 'localhost:1' }, 200],
  [{ host: '10.1.2.3:2379' }, 200],
  [{ host: '[::1]:2379' }, 200],
  [{ host: 'member.example:2379' }, 200],
  [{ origin: 'http://evil.example' }, 403],
  [{ origin: 'null' }, 403],
  [{ 'sec-fetch-site': 'cross-site' }, 403],
  [{ 'sec-fetch-site': 'same-origin' }, 200],
  [{ host: 'localhost:1', origin: 'http://localhost:1' }, 200],
  [{ host: 'localhost:1', origin: 'http://localhost:2' }, 403],
  [{ origin: 'https://console.example' }, 200],
])('a request with %j is answered %i', async (headers, status) => {
  await using face = await Face.open({
    listener: { hosts: ['member.example'], origins: ['https://console.example'] },
  });
  expect((await get(face.url, { headers })).status).toBe(status);
});

test('a listed origin may use the port from a page, and a star lets everybody', async () => {
  await using face = await Face.open({ listener: { origins: ['*'], hosts: ['*'] } });
  const headers = { origin: 'http://evil.example', host: 'evil.example' };
  const preflight = await get(face.url, { method: 'OPTIONS', headers });
  expect(preflight.status).toBe(200);
  expect(preflight.headers).toMatchObject({
    'access-control-allow-origin': 'http://evil.example',
  });
});

test('health in the forms of etcd', async () => {
  await using face = await Face.open();
  const ask = async (path: string) => {
    const response = await fetch(`${face.url}${path}`);
    return [response.status, await response.text()];
  };
  expect(await ask('/health')).toEqual([200, '{"health":"true","reason":""}']);
  expect(await ask('/livez')).toEqual([200, 'ok\n']);
  expect(await ask('/readyz')).toEqual([200, 'ok\n']);
  expect(await ask('/readyz/linearizable_read')).toEqual([200, 'ok\n']);
  face.member.applyNow({
    kind: 'alarm',
    action: 'activate',
    memberId: 1n,
    alarm: 'no-space',
  });
  expect(await ask('/health')).toEqual([503, '{"health":"false","reason":"ALARM NOSPACE"}']);
  expect((await ask('/health?exclude=NOSPACE'))[0]).toBe(200);
  face.member.leader = 0n;
  expect((await ask('/health?exclude=NOSPACE'))[1]).toContain('RAFT NO LEADER');
  expect((await ask('/health?exclude=NOSPACE&serializable=true'))[0]).toBe(200);
  expect((await ask('/livez'))[0]).toBe(200);
  expect(await ask('/readyz')).toEqual([
    503,
    '[+]data_corruption ok\n[+]serializable_read ok\n' +
      '[-]linearizable_read failed: etcdserver: no leader\n[+]non_learner ok\nreadyz check failed\n',
  ]);
  expect((await ask('/readyz?exclude=linearizable_read'))[0]).toBe(200);
  expect((await ask('/readyz?exclude=linearizable_read&verbose'))[1]).toContain(
    '[+]linearizable_read excluded: ok\n',
  );
});

test('a health check that hangs fails in bounded time', async () => {
  await using face = await Face.open({ listener: { healthTimeoutMs: 50 } });
  face.member.gate = new Promise(() => {});
  const response = await fetch(`${face.url}/readyz`);
  expect(response.status).toBe(503);
});

test('metrics count calls by method and code', async () => {
  await using face = await Face.open();
  const { kv } = face.wire();
  await kv.put({ key });
  await kv.put({}).catch(() => {});
  const text = await (await fetch(`${face.url}/metrics`)).text();
  const labels = 'grpc_service="etcdserverpb.KV",grpc_method="Put",grpc_type="unary"';
  expect(text).toContain(`grpc_server_started_total{${labels}} 2`);
  expect(text).toContain(`grpc_server_handled_total{${labels},grpc_code="OK"} 1`);
  expect(text).toContain(`grpc_server_handled_total{${labels},grpc_code="InvalidArgument"} 1`);
  expect(text).toContain('etcd_server_has_leader 1');
});

test('others mount their pages beside; a path is given once', async () => {
  await using face = await Face.open();
  face.listener.mount('/console/', (_request, response, url) => {
    response.end(`console ${url.pathname}`);
  });
  face.listener.mount('/broken', () => Promise.reject(new Error('secret')));
  expect((await get(face.url, { path: '/console/a/b' })).body).toBe('console /console/a/b');
  const broken = await get(face.url, { path: '/broken' });
  expect([broken.status, broken.body.includes('secret')]).toEqual([500, false]);
  expect(() => face.listener.mount('/health', () => {})).toThrow(TypeError);
  expect(() => face.listener.mount('relative', () => {})).toThrow(TypeError);
  expect((await get(face.url, { path: '//' })).status).toBe(400);
});

test('a socket file is served, and one that a killed process left is replaced', async () => {
  const path = join(mkdtempSync(join(tmpdir(), 'conclave-')), 'socket');
  const dead = createServer().listen(path);
  await once(dead, 'listening');
  await using face = await Face.open();
  const listen = () =>
    Listener.open({
      urls: [`unix:${path}`],
      member: face.member,
      rpc: face.rpc,
      metrics: { expose: async () => ({ contentType: '', text: '' }), healthChecked: () => {} },
      logger: face.logger,
    });
  await expect(listen()).rejects.toMatchObject({ code: 'EADDRINUSE' });
  dead.close();
  const listener = await listen();
  const body = await new Promise<string>((resolve, reject) => {
    const sent = request({ socketPath: path, path: '/health' }, (response) => {
      response.on('data', (chunk: Buffer) => resolve(String(chunk)));
    });
    sent.on('error', reject);
    sent.end();
  });
  expect(body).toContain('"health":"true"');
  await listener.close(100);
});

test.each(['https://localhost:1', 'localhost:1', 'unix:', 'ftp://x'])(
  'the listen URL %s is refused by name',
  async (url) => {
    await expect(Face.open({ listener: { urls: [url] } })).rejects.toThrow(url);
  },
);

test('connections kept alive between requests do not hold up the end', async () => {
  await using face = await Face.open();
  expect((await fetch(`${face.url}/version`)).status).toBe(200);
  await within(face.close(5_000), 1_000, 'closing');
});
