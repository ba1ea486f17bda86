import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { bytesOf } from '../src/event';
import { MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_FAILURES, MAX_WAITING, Sender } from '../src/sender';

const DAY_MS = 86_400_000;
const answers: Array<() => Promise<Response>> = [];
const send = vi.fn(async (_url: string, _options: RequestInit) => (answers.shift() ?? ok)());
const answer = (status: number, headers = {}) => async () => new Response('{}', { status, headers });
const ok = answer(200);
const away = async () => Promise.reject(new TypeError('Failed to fetch'));
const batches = () => send.mock.calls.map(([, { body }]) => JSON.parse(String(body)));
const events = (count: number) => Array.from({ length: count }, (_, id) => JSON.stringify({ id }));
const settled = () => vi.advanceTimersByTimeAsync(0);

let sender: Sender;
beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('fetch', send);
  send.mockClear();
  answers.length = 0;
  sender = new Sender('https://collector.example/v1/pixel?token=t', false);
});
afterEach(() => {
  vi.useRealTimers();
});

test('the first event goes at once, and what comes before its answer goes together', async () => {
  events(4).forEach((event) => sender.send(event));
  expect(batches()).toEqual([[{ id: 0 }]]);
  await settled();
  expect(batches()).toEqual([[{ id: 0 }], [{ id: 1 }, { id: 2 }, { id: 3 }]]);
});

test('a request outlives its page, needs no preflight and carries no cookies', () => {
  sender.send('{}');
  const [url, options] = send.mock.calls[0]!;
  expect(url).toBe('https://collector.example/v1/pixel?token=t');
  expect(options).toEqual({ method: 'POST', body: '[{}]', keepalive: true, credentials: 'omit' });
});

test('no event waits where nothing announces the end of the page', () => {
  const worker = new Sender('https://collector.example', true);
  events(3).forEach((event) => worker.send(event));
  expect(batches()).toEqual([[{ id: 0 }], [{ id: 1 }], [{ id: 2 }]]);
});

test('all that waits goes when the page ends, although an answer has not come', () => {
  answers.push(() => new Promise(() => undefined));
  events(3).forEach((event) => sender.send(event));
  sender.flush();
  expect(batches()).toEqual([[{ id: 0 }], [{ id: 1 }, { id: 2 }]]);
});

test('batches stay within what browsers keep alive and the collector takes', async () => {
  answers.push(away);
  sender.send('{}');
  await settled();
  const event = JSON.stringify({ text: 'é'.repeat(10_000) });
  for (let count = 0; count < 7; count += 1) sender.send(event);
  await vi.advanceTimersByTimeAsync(DAY_MS);
  expect(batches().map((batch) => batch.length)).toEqual([1, 3, 2, 2, 1]);
  for (const [, { body, keepalive }] of send.mock.calls) {
    expect(bytesOf(String(body))).toBeLessThanOrEqual(MAX_BATCH_BYTES + 2);
    expect(keepalive).toBe(true);
  }
});

test('a batch has no more events than the collector takes, and so many wait at most', async () => {
  answers.push(() => new Promise(() => undefined));
  events(MAX_WAITING + 50).forEach((event) => sender.send(event));
  sender.flush();
  expect(batches().map((batch) => batch.length)).toEqual([1, MAX_BATCH_EVENTS, MAX_WAITING - MAX_BATCH_EVENTS]);
});

test('an event too large to be kept alive goes alone and without', async () => {
  answers.push(away);
  sender.send('{}');
  await settled();
  sender.send(JSON.stringify({ text: 'x'.repeat(62_000) }));
  await vi.advanceTimersByTimeAsync(DAY_MS);
  expect(send.mock.calls.map(([, { keepalive }]) => keepalive)).toEqual([true, true, false]);
});

test.each([429, 503])('%d is retried after Retry-After and not before', async (status) => {
  answers.push(answer(status, { 'retry-after': '90' }));
  sender.send('{"id":0}');
  await vi.advanceTimersByTimeAsync(89_000);
  sender.send('{"id":1}');
  await settled();
  expect(send).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(batches()).toEqual([[{ id: 0 }], [{ id: 0 }, { id: 1 }]]);
});

test.each([400, 403, 404, 408, 413, 415, 500])('%d is never retried', async (status) => {
  answers.push(answer(status, { 'retry-after': '1' }));
  sender.send('{"id":0}');
  await vi.advanceTimersByTimeAsync(DAY_MS);
  expect(send).toHaveBeenCalledTimes(1);
});

test('while the collector is away events wait, and each is sent again until it is accepted', async () => {
  answers.push(away, away, away);
  events(3).forEach((event) => sender.send(event));
  await vi.advanceTimersByTimeAsync(60_000);
  expect(batches()[0]).toEqual([{ id: 0 }]);
  expect(batches().slice(1)).toEqual(Array(3).fill([{ id: 0 }, { id: 1 }, { id: 2 }]));
});

test('an answer that never comes is a failure', async () => {
  answers.push(() => new Promise(() => undefined));
  sender.send('{"id":0}');
  await vi.advanceTimersByTimeAsync(60_000);
  expect(batches()).toEqual([[{ id: 0 }], [{ id: 0 }]]);
});

test('a batch that always fails is given up, and a later event gets one try', async () => {
  answers.push(...Array(MAX_FAILURES + 2).fill(away));
  sender.send('{"id":0}');
  await vi.advanceTimersByTimeAsync(DAY_MS);
  expect(send).toHaveBeenCalledTimes(MAX_FAILURES + 1);
  sender.send('{"id":1}');
  await vi.advanceTimersByTimeAsync(DAY_MS);
  expect(send).toHaveBeenCalledTimes(MAX_FAILURES + 2);
});

test('requests that fail together are one failure, so that none of their events is lost', async () => {
  const worker = new Sender('https://collector.example', true);
  answers.push(...Array(2 * MAX_FAILURES).fill(away));
  events(2 * MAX_FAILURES).forEach((event) => worker.send(event));
  await vi.advanceTimersByTimeAsync(60_000);
  const ids = batches().slice(2 * MAX_FAILURES).flat().map(({ id }) => id);
  expect(ids.sort((a, b) => a - b)).toEqual([...Array(2 * MAX_FAILURES).keys()]);
});
