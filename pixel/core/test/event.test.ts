import { describe, expect, test } from 'vitest';
import { MAX_EVENT_BYTES, bytesOf, campaignOf, encode } from '../src/event';
import { ALLOWED, REFUSED, checkout, event, variant } from './events';

const sent = (name: string, data?: object, privacy = ALLOWED) => JSON.parse(encode(event(name, data), privacy));

describe('an event', () => {
  test('has the id, name, client, time and page that the collector reads', () => {
    expect(sent('page_viewed')).toEqual({
      id: 'e-1',
      name: 'page_viewed',
      timestamp: '2026-11-27T10:00:00.000Z',
      seq: 3,
      clientId: 'c-1',
      data: {},
      context: {
        document: {
          location: { href: 'https://shop.example/?gclid=G&utm_source=google' },
          referrer: 'https://www.google.com/?q=ada',
        },
        navigator: { userAgent: 'Mozilla/5.0', language: 'en' },
      },
      customerPrivacy: ALLOWED,
    });
  });

  test('has its product, cart line, cart, collection or search', () => {
    const product = { id: '7', title: 'Hat', vendor: 'Acme', type: 'Hats' };
    const price = { amount: 10, currencyCode: 'USD' };
    const shown = { id: '41', sku: 'H-1', title: 'Blue', price, product };
    const cost = { totalAmount: price };
    const line = { merchandise: variant, quantity: 1, cost };
    expect(sent('product_viewed', { productVariant: variant }).data).toEqual({ productVariant: shown });
    const sentLine = { merchandise: shown, quantity: 1, cost };
    expect(sent('product_added_to_cart', { cartLine: line }).data).toEqual({ cartLine: sentLine });
    const cart = { id: 'c', cost, lines: [line], totalQuantity: 1, attributes: [{ key: 'note', value: 'For Ada' }] };
    const sentCart = { id: 'c', cost, lines: [sentLine], totalQuantity: 1 };
    expect(sent('cart_viewed', { cart }).data).toEqual({ cart: sentCart });
    expect(sent('cart_viewed', { cart: null }).data).toEqual({ cart: null });
    const list = { id: '3', title: 'All', productVariants: [variant] };
    expect(sent('collection_viewed', { collection: list }).data.collection.productVariants).toEqual([shown]);
    const search = { query: 'hat', productVariants: [variant] };
    expect(sent('search_submitted', { searchResult: search }).data.searchResult).toEqual({
      query: 'hat',
      productVariants: [shown],
    });
  });

  test('has of a checkout what counts, and no name, address or telephone number', () => {
    const { data } = sent('checkout_completed', { checkout: checkout() });
    expect(data.checkout).toMatchObject({
      token: 'tok-1',
      currencyCode: 'USD',
      email: 'ada@shop.example',
      totalPrice: { amount: 25, currencyCode: 'USD' },
      order: { id: '99', customer: { id: '55', isFirstOrder: true } },
      lineItems: [{ quantity: 2, discountAllocations: [{ amount: { amount: 1, currencyCode: 'USD' } }] }],
    });
    expect(JSON.stringify(data)).not.toMatch(/Lovelace|Main St|15550100|10001|engraving|SALE/);
  });

  test('loses its lines, not its total, if it would be larger than the collector takes', () => {
    const text = encode(event('checkout_completed', { checkout: checkout(2000) }), ALLOWED);
    expect(bytesOf(text)).toBeLessThan(MAX_EVENT_BYTES);
    const found = JSON.parse(text).data.checkout;
    expect(found.lineItems).toBeUndefined();
    expect(found).toMatchObject({ token: 'tok-1', totalPrice: { amount: 25 } });
    const kept = JSON.parse(encode(event('checkout_completed', { checkout: checkout(100) }), ALLOWED));
    expect(kept.data.checkout.lineItems).toHaveLength(100);
  });
});

describe('without consent for analytics', () => {
  test('nothing in an event identifies the visitor', () => {
    const text = encode(event('checkout_completed', { checkout: checkout() }), REFUSED);
    expect(text).not.toMatch(/c-1|ada|gclid|"55"|isFirstOrder/);
    const found = JSON.parse(text);
    expect(found.customerPrivacy.analyticsProcessingAllowed).toBe(false);
    expect(found.context.document.location.href).toBe('https://shop.example/?utm_source=google');
    expect(found.data.checkout.totalPrice.amount).toBe(25);
  });

  test.each([
    ['https://ada:secret@shop.example/p?utm_Medium=cpc&fbclid=F#ada', 'https://shop.example/p?utm_Medium=cpc'],
    ['https://shop.example/?email=a%40b', 'https://shop.example/'],
    ['https://shop.example/', 'https://shop.example/'],
    ['', ''],
    ['nonsense', ''],
  ])('of the address %s is left %s', (address, left) => {
    expect(campaignOf(address)).toBe(left);
  });
});
