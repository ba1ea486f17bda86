// Events as Shopify passes them to a pixel, with all that must not leave the browser.

import type { StandardEvent } from '@shopify/web-pixels-extension';
import type { CustomerPrivacy } from '../src/event';

export const ALLOWED: CustomerPrivacy = {
  analyticsProcessingAllowed: true,
  marketingAllowed: true,
  preferencesProcessingAllowed: true,
  saleOfDataAllowed: true,
};
export const REFUSED: CustomerPrivacy = { ...ALLOWED, analyticsProcessingAllowed: false };

const money = (amount: number) => ({ amount, currencyCode: 'USD' });
export const variant = {
  id: '41',
  image: { src: 'https://shop.example/hat.jpg' },
  price: money(10),
  product: { id: '7', title: 'Hat', untranslatedTitle: 'Hat', url: '/hat', vendor: 'Acme', type: 'Hats' },
  sku: 'H-1',
  title: 'Blue',
  untranslatedTitle: 'Blue',
};
const address = { firstName: 'Ada', lastName: 'Lovelace', address1: '1 Main St', phone: '+15550100', zip: '10001' };

export const checkout = (lines = 1): object => ({
  token: 'tok-1',
  currencyCode: 'USD',
  email: 'ada@shop.example',
  phone: '+15550100',
  shippingAddress: address,
  billingAddress: address,
  subtotalPrice: money(20),
  totalPrice: money(25),
  lineItems: Array.from({ length: lines }, () => ({
    id: '1',
    title: 'Hat',
    quantity: 2,
    variant,
    discountAllocations: [{ amount: money(1), discountApplication: { title: 'SALE' } }],
    properties: [{ key: 'engraving', value: 'For Ada' }],
  })),
  order: { id: '99', customer: { id: '55', isFirstOrder: true } },
  transactions: [],
});

export const event = (name: string, data: object = {}): StandardEvent =>
  ({
    id: 'e-1',
    name,
    clientId: 'c-1',
    timestamp: '2026-11-27T10:00:00.000Z',
    seq: 3,
    type: 'standard',
    data,
    context: {
      document: {
        location: { href: 'https://shop.example/?gclid=G&utm_source=google' },
        referrer: 'https://www.google.com/?q=ada',
        title: 'Hats',
        characterSet: 'UTF-8',
      },
      navigator: { userAgent: 'Mozilla/5.0', language: 'en', languages: ['en'], cookieEnabled: true },
      window: { innerWidth: 1 },
    },
  }) as unknown as StandardEvent;
