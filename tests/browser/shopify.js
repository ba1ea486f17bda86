// Stands in for Shopify on a storefront's page: the pixel manager, the Customer Privacy API and an add-to-cart button.
// The page has set `PAGE`: {kind, code, settings, consent, client, events}.

let consent = PAGE.consent;
window.Shopify = {
  routes: { root: '/' },
  loadFeatures: (_features, done) => setTimeout(done),
  customerPrivacy: { analyticsProcessingAllowed: () => consent.analyticsProcessingAllowed },
};

const context = () => ({
  document: { location: { href: location.href, search: location.search }, referrer: document.referrer, title: 'Hats' },
  navigator: { userAgent: navigator.userAgent, language: navigator.language, languages: navigator.languages },
  window: { origin: location.origin, location: { href: location.href } },
});
const plain = (value) => JSON.parse(JSON.stringify(value));

let post;
const delivered = new Map();
const started = new Promise((resolve) => {
  const receive = ({ data }) => {
    if (data.loaded) {
      const init = plain({ context: context(), data: { customer: null, cart: null }, customerPrivacy: consent });
      post({ start: { init, settings: PAGE.settings, code: PAGE.code } });
    }
    if (data.started) resolve();
    if (data.delivered) delivered.get(data.delivered)();
    if (data.storage) {
      const { id, method, args } = data.storage;
      post({ answer: { id, result: localStorage[method](...args) } });
    }
  };
  if (PAGE.kind === 'custom') {
    const frame = document.createElement('iframe');
    frame.sandbox = 'allow-scripts allow-forms';
    frame.src = '/sandbox.html';
    addEventListener('message', receive);
    post = (message) => frame.contentWindow.postMessage(message, '*');
    document.body.append(frame);
  } else {
    const worker = new Worker('/sandbox.js');
    worker.addEventListener('message', receive);
    post = (message) => worker.postMessage(message);
  }
});

let seq = 0;
/** Publishes events, given by name and data, and waits for the pixel to have them. */
window.publish = async (events) => {
  await started;
  const all = events.map(([name, data]) => {
    const [id, timestamp] = [crypto.randomUUID(), new Date().toISOString()];
    const event = { id, name, clientId: PAGE.client, timestamp, seq: ++seq, data, context: context() };
    post({ event: plain({ ...event, type: 'standard' }) });
    return new Promise((resolve) => delivered.set(id, resolve));
  });
  await Promise.all(all);
};
/** The visitor uses the cookie banner. */
window.decide = async (analyticsAllowed) => {
  consent = { ...consent, analyticsProcessingAllowed: analyticsAllowed };
  document.dispatchEvent(new CustomEvent('visitorConsentCollected', { detail: { analyticsAllowed } }));
  await started;
  post({ consent });
};
/** The theme's button. */
window.addToCart = async (line) => {
  await fetch('/cart/add.js', { method: 'POST', body: '{}' });
  await publish([['product_added_to_cart', { cartLine: line }]]);
};

void publish([['page_viewed', {}], ...PAGE.events]);
