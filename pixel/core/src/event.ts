// Maps Shopify's standard events (https://shopify.dev/docs/api/web-pixels-api/standard-events) to the collector's
// events. Only data that the pipeline and analysts need leave the browser: no name, postal address or telephone number.

import type {
  Cart,
  CartLine,
  Checkout,
  CheckoutLineItem,
  Collection,
  CustomerPrivacyPayload,
  MoneyV2,
  Order,
  ProductVariant,
  SearchResult,
  StandardEvent,
} from '@shopify/web-pixels-extension';

export type CustomerPrivacy = CustomerPrivacyPayload['customerPrivacy'];

/** The fields in the data of standard events; each event has some of them. */
interface Data {
  productVariant?: ProductVariant;
  cartLine?: CartLine | null;
  cart?: Cart | null;
  collection?: Collection;
  searchResult?: SearchResult;
  checkout?: Checkout;
}

/** The collector refuses a larger event. */
export const MAX_EVENT_BYTES = 64 * 1024;

const encoder = new TextEncoder();

/** Returns the number of bytes of a text in UTF-8. */
export const bytesOf = (text: string): number => encoder.encode(text).length;

/**
 * Returns the JSON of the collector's event. An event that would be too large omits its lines and products, so that
 * at least its visit, its token and its total arrive.
 *
 * @param event Shopify's event.
 * @param privacy The visitor's consent: if it refuses analytics, the JSON contains nothing that identifies the visitor.
 */
export function encode(event: StandardEvent, privacy: CustomerPrivacy): string {
  const mapped = map(event, privacy);
  const text = JSON.stringify(mapped);
  return bytesOf(text) <= MAX_EVENT_BYTES ? text : JSON.stringify(mapped, withoutLists);
}

const withoutLists = (_: string, value: unknown): unknown => (Array.isArray(value) ? undefined : value);

function map(event: StandardEvent, privacy: CustomerPrivacy): object {
  const { id, name, timestamp, seq, clientId, context } = event;
  const allowed = privacy.analyticsProcessingAllowed;
  const address = allowed ? (text: string) => text : campaignOf;
  const { document, navigator } = context;
  return {
    id,
    name,
    timestamp,
    seq,
    clientId: allowed ? clientId : undefined,
    data: dataOf(event.data as Data, allowed),
    context: {
      document: { location: { href: address(document.location.href) }, referrer: address(document.referrer) },
      navigator: { userAgent: navigator.userAgent, language: navigator.language },
    },
    customerPrivacy: privacy,
  };
}

/** Returns an address without user, fragment and all parameters except `utm_*`: click ids identify a visitor. */
export function campaignOf(address: string): string {
  try {
    const url = new URL(address);
    for (const name of [...url.searchParams.keys()]) {
      if (!/^utm_/i.test(name)) url.searchParams.delete(name);
    }
    url.hash = url.username = url.password = '';
    return url.href;
  } catch {
    return '';
  }
}

// `JSON.stringify` leaves out undefined fields.
function dataOf(data: Data, allowed: boolean): object {
  const { productVariant, cartLine, cart, collection, searchResult, checkout } = data;
  return {
    productVariant: productVariant && variantOf(productVariant),
    cartLine: cartLine && lineOf(cartLine),
    cart: cart && {
      id: cart.id,
      cost: { totalAmount: moneyOf(cart.cost?.totalAmount) },
      totalQuantity: cart.totalQuantity,
      lines: cart.lines?.map(lineOf),
    },
    collection: collection && {
      id: collection.id,
      title: collection.title,
      productVariants: collection.productVariants?.map(variantOf),
    },
    searchResult: searchResult && {
      query: searchResult.query,
      productVariants: searchResult.productVariants?.map(variantOf),
    },
    checkout: checkout && checkoutOf(checkout, allowed),
  };
}

const checkoutOf = (checkout: Checkout, allowed: boolean): object => ({
  token: checkout.token,
  currencyCode: checkout.currencyCode,
  email: allowed ? checkout.email : undefined,
  subtotalPrice: moneyOf(checkout.subtotalPrice),
  totalPrice: moneyOf(checkout.totalPrice),
  lineItems: checkout.lineItems?.map(itemOf),
  order: checkout.order && { id: checkout.order.id, customer: allowed ? buyerOf(checkout.order) : undefined },
});

const buyerOf = ({ customer }: Order): object | null =>
  customer && { id: customer.id, isFirstOrder: customer.isFirstOrder };

const itemOf = ({ quantity, variant, discountAllocations }: CheckoutLineItem): object => ({
  quantity,
  variant: variant && variantOf(variant),
  discountAllocations: discountAllocations?.map(({ amount }) => ({ amount: moneyOf(amount) })),
});

const lineOf = ({ quantity, merchandise, cost }: CartLine): object => ({
  quantity,
  merchandise: merchandise && variantOf(merchandise),
  cost: { totalAmount: moneyOf(cost?.totalAmount) },
});

const variantOf = ({ id, sku, title, price, product }: ProductVariant): object => ({
  id,
  sku,
  title,
  price: moneyOf(price),
  product: product && { id: product.id, title: product.title, vendor: product.vendor, type: product.type },
});

const moneyOf = (money: MoneyV2 | null | undefined): object | null | undefined =>
  money && { amount: money.amount, currencyCode: money.currencyCode };
