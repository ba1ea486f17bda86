import type { StandardEvent } from '@shopify/web-pixels-extension';
import { beforeEach, expect, test, vi } from 'vitest';
import type { CustomerPrivacy } from '../src/event';
import { type Api, CLIENT_KEY, start } from '../src/pixel';
import { ALLOWED, REFUSED, event } from './events';

const fetched = vi.fn(async (_url: string, _options: RequestInit) => new Response('{}'));
const stored = new Map<string, string>();
let publish: (event: StandardEvent) => void;
let collect: (event: { customerPrivacy: CustomerPrivacy }) => void;

function begin(privacy: CustomerPrivacy): void {
  const storage = {
    setItem: async (key: string, value: string) => void stored.set(key, value),
    removeItem: async (key: string) => void stored.delete(key),
  };
  const onEvents = (name: string, callback: typeof publish) => {
    if (name === 'all_standard_events') publish = callback;
  };
  const onConsent = (name: string, callback: typeof collect) => {
    if (name === 'visitorConsentCollected') collect = callback;
  };
  const api = {
    analytics: { subscribe: onEvents },
    customerPrivacy: { subscribe: onConsent },
    browser: { localStorage: storage },
    init: { customerPrivacy: privacy },
  };
  start(api as unknown as Api, { collector: 'https://collector.example/', token: 'tp/1' });
}

const last = () => JSON.parse(String(fetched.mock.lastCall![1].body)).at(-1);

beforeEach(() => {
  vi.stubGlobal('fetch', fetched);
  fetched.mockClear();
  stored.clear();
});

test('every standard event goes to the endpoint of the shop', () => {
  begin(ALLOWED);
  publish(event('page_viewed'));
  expect(fetched.mock.lastCall![0]).toBe('https://collector.example/v1/pixel?token=tp%2F1');
  expect(last()).toMatchObject({ name: 'page_viewed', clientId: 'c-1' });
});

test('the theme finds the client id', () => {
  begin(ALLOWED);
  publish(event('page_viewed'));
  expect(stored.get(CLIENT_KEY)).toBe('c-1');
});

test('consent of the first moment and later changes decide what is sent and stored', () => {
  stored.set(CLIENT_KEY, 'c-1');
  begin(REFUSED);
  publish(event('page_viewed'));
  expect(last().clientId).toBeUndefined();
  expect(stored.size).toBe(0);
  collect({ customerPrivacy: ALLOWED });
  expect(stored.get(CLIENT_KEY)).toBe('c-1');
  publish(event('page_viewed'));
  expect(last().clientId).toBe('c-1');
  collect({ customerPrivacy: REFUSED });
  expect(stored.size).toBe(0);
  publish(event('page_viewed'));
  expect(last().clientId).toBeUndefined();
});
