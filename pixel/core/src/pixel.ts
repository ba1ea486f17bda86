// The pixel: subscribes to Shopify's standard events and sends them to the collector, as the visitor's consent allows.

import type { ExtensionApi } from '@shopify/web-pixels-extension';
import { type CustomerPrivacy, encode } from './event';
import { Sender } from './sender';

/** The API that Shopify gives to both kinds of pixels. */
export type Api = Pick<ExtensionApi, 'analytics' | 'browser' | 'init' | 'customerPrivacy'>;

export interface Settings {
  /** The collector's address, such as `https://collector.example`. */
  collector: string;
  /** The shop's pixel token, which `truepixel shops show` prints. */
  token: string;
}

/** The key in the storefront's local storage under which the theme embed finds the client id. */
export const CLIENT_KEY = 'truepixel_client_id';

/** Starts a pixel. */
export function start({ analytics, browser, init, customerPrivacy }: Api, { collector, token }: Settings): void {
  const url = `${collector.replace(/\/+$/, '')}/v1/pixel?token=${encodeURIComponent(token)}`;
  const page = typeof document === 'undefined' ? undefined : document;
  const sender = new Sender(url, !page);
  let privacy: CustomerPrivacy = init.customerPrivacy;
  let client: string | undefined;

  const remember = (): void => {
    const storage = browser.localStorage;
    const isAllowed = privacy.analyticsProcessingAllowed && client;
    const done = isAllowed ? storage.setItem(CLIENT_KEY, client) : storage.removeItem(CLIENT_KEY);
    // Without storage, the pipeline still finds the order's client by the checkout's token.
    done.catch(() => undefined);
  };

  customerPrivacy.subscribe('visitorConsentCollected', (event) => {
    privacy = event.customerPrivacy;
    remember();
  });
  analytics.subscribe('all_standard_events', (event) => {
    sender.send(encode(event, privacy));
    if (client !== event.clientId) {
      client = event.clientId;
      remember();
    }
  });
  // A custom pixel is a frame, which notices the end of its page; an app pixel is a worker, which does not.
  page?.addEventListener('visibilitychange', () => {
    if (page.visibilityState === 'hidden') sender.flush();
  });
  page?.defaultView?.addEventListener('pagehide', () => sender.flush());
}
