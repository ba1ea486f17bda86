// The theme embed: writes the client id and the landing page into the attributes of a cart that has items, so that
// the order's webhook names them in `note_attributes`, and removes them if the visitor refuses analytics.

import { CLIENT_KEY } from '@truepixel/core';
import { landingOf } from './landing';

/** The used parts of https://shopify.dev/docs/api/customer-privacy and https://shopify.dev/docs/api/ajax. */
export interface Shopify {
  routes: { root: string };
  loadFeatures(features: { name: string; version: string }[], done: (error?: unknown) => void): void;
  customerPrivacy?: { analyticsProcessingAllowed(): boolean };
}

// Attributes with two underscores are private: neither Liquid nor the Ajax API returns them, and pages stay cacheable
// (https://shopify.dev/docs/api/liquid/objects/cart). The pipeline reads their names without underscores.
export const CLIENT = '__truepixel_client_id';
export const LANDING = '__truepixel_landing';

/** Keys in the session's storage: the landing page, and the attributes that the cart has. */
export const LANDING_KEY = 'truepixel_landing';
export const WRITTEN_KEY = 'truepixel_written';

export class Embed {
  private hasItems: boolean;

  /**
   * @param shopify The storefront's global object.
   * @param items How many items the cart had when the page was rendered.
   */
  constructor(
    private readonly shopify: Shopify,
    items: number,
  ) {
    // After an order, the cart is a new one without the attributes.
    if (!items) sessionStorage.removeItem(WRITTEN_KEY);
    this.hasItems = items > 0;
  }

  /** Notes the landing page and writes the attributes, as the visitor's consent allows; removes both otherwise. */
  update(): void {
    if (!this.shopify.customerPrivacy?.analyticsProcessingAllowed()) {
      localStorage.removeItem(CLIENT_KEY);
      sessionStorage.removeItem(LANDING_KEY);
      if (sessionStorage.getItem(WRITTEN_KEY)) this.write({ [CLIENT]: '', [LANDING]: '' });
      return;
    }
    const landing = landingOf(location.pathname, location.search);
    if (landing) sessionStorage.setItem(LANDING_KEY, landing);
    const found = { [CLIENT]: localStorage.getItem(CLIENT_KEY), [LANDING]: sessionStorage.getItem(LANDING_KEY) };
    const attributes = Object.fromEntries(Object.entries(found).filter(([, value]) => value));
    if (this.hasItems && Object.keys(attributes).length) this.write(attributes);
  }

  /** Handles an addition to the cart, which may be a new cart. */
  added(): void {
    this.hasItems = true;
    sessionStorage.removeItem(WRITTEN_KEY);
    this.update();
  }

  private write(attributes: Record<string, string | null>): void {
    const body = JSON.stringify({ attributes });
    if (sessionStorage.getItem(WRITTEN_KEY) === body) return;
    sessionStorage.setItem(WRITTEN_KEY, body);
    fetch(`${this.shopify.routes.root}cart/update.js`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
      keepalive: true,
    }).catch(() => sessionStorage.removeItem(WRITTEN_KEY));
  }
}
