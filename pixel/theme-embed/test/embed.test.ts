import { CLIENT_KEY } from '@truepixel/core';
import { beforeEach, expect, test, vi } from 'vitest';
import { CLIENT, Embed, LANDING } from '../src/embed';
import { landingOf } from '../src/landing';

const storage = () => {
  const items = new Map<string, string>();
  return {
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => void items.set(key, value),
    removeItem: (key: string) => void items.delete(key),
  };
};
const update = vi.fn(async (_url: string, _options: RequestInit) => new Response('{}'));
const written = () => update.mock.calls.map(([, { body }]) => JSON.parse(String(body)).attributes);
let isAllowed = true;
const page = (items: number, search = '') => {
  vi.stubGlobal('location', { pathname: '/hats', search });
  const shopify = {
    routes: { root: '/de/' },
    loadFeatures: () => undefined,
    customerPrivacy: { analyticsProcessingAllowed: () => isAllowed },
  };
  const embed = new Embed(shopify, items);
  embed.update();
  return embed;
};

beforeEach(() => {
  isAllowed = true;
  update.mockClear();
  vi.stubGlobal('fetch', update);
  vi.stubGlobal('localStorage', storage());
  vi.stubGlobal('sessionStorage', storage());
});

test('the landing page is its path with the parameters of its ad', () => {
  const query = '?utm_source=ig&variant=1&FBCLID=F&ScCid=S&email=a%40b&gclid=';
  expect(landingOf('/hats', query)).toBe('/hats?utm_source=ig&FBCLID=F&ScCid=S');
  expect(landingOf('/hats', '?variant=1')).toBe('');
});

test('a cart gets the client id and the landing page once it has items', () => {
  localStorage.setItem(CLIENT_KEY, 'c-1');
  page(0, '?utm_source=google&gclid=G');
  expect(update).not.toHaveBeenCalled();
  page(0).added();
  expect(update.mock.lastCall![0]).toBe('/de/cart/update.js');
  expect(written()).toEqual([{ [CLIENT]: 'c-1', [LANDING]: '/hats?utm_source=google&gclid=G' }]);
});

test('the same is not written again, but into a new cart', () => {
  localStorage.setItem(CLIENT_KEY, 'c-1');
  page(1);
  page(1);
  expect(written()).toEqual([{ [CLIENT]: 'c-1' }]);
  page(0);
  page(1);
  expect(written()).toHaveLength(2);
});

test('what could not be written is written by the next page', async () => {
  localStorage.setItem(CLIENT_KEY, 'c-1');
  update.mockRejectedValueOnce(new TypeError('Failed to fetch'));
  page(1);
  await Promise.resolve();
  page(1);
  expect(written()).toHaveLength(2);
});

test('without consent nothing is stored or written, and what was is removed', () => {
  isAllowed = false;
  page(1, '?gclid=G');
  expect(update).not.toHaveBeenCalled();
  isAllowed = true;
  localStorage.setItem(CLIENT_KEY, 'c-1');
  const embed = page(1, '?gclid=G');
  isAllowed = false;
  embed.update();
  expect(written().at(-1)).toEqual({ [CLIENT]: '', [LANDING]: '' });
  expect(localStorage.getItem(CLIENT_KEY)).toBeNull();
});
