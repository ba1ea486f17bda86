// The script of the app embed block (`extensions/truepixel-theme/blocks/truepixel.liquid`).

import { Embed, type Shopify } from './embed';

declare const window: Window & { Shopify: Shopify };

const { Shopify: shopify } = window;
const embed = new Embed(shopify, Number(document.currentScript?.dataset.items));
const update = (): void => embed.update();

shopify.loadFeatures([{ name: 'consent-tracking-api', version: '0.1' }], (error) => {
  if (!error) update();
});
document.addEventListener('visitorConsentCollected', update);
// A theme that uses the Ajax API adds to the cart without leaving the page; a plain form loads the cart's page.
new PerformanceObserver((list) => {
  if (list.getEntries().some(({ name }) => new URL(name).pathname.includes('/cart/add'))) embed.added();
}).observe({ type: 'resource' });
