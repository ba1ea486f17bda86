// Stands in for the inside of Shopify's pixel sandboxes: the globals that Shopify documents, and no others.
// A custom pixel runs in a sandboxed frame ("lax"), an app pixel in a worker ("strict").

const outside = self.document ? parent : self;
const post = (message) => (self.document ? outside.postMessage(message, '*') : outside.postMessage(message));
const callbacks = { events: [], consent: [] };
const answers = new Map();

// Storage is of the page outside: each call is a message, and its result comes as one.
const outer = (method) => (...args) =>
  new Promise((resolve) => {
    const id = crypto.randomUUID();
    answers.set(id, resolve);
    post({ storage: { id, method, args } });
  });

function start({ init, settings, code }) {
  const apis = {
    analytics: { subscribe: (name, callback) => callbacks.events.push({ name, callback }) },
    browser: { localStorage: { setItem: outer('setItem'), removeItem: outer('removeItem') } },
    init,
    customerPrivacy: { subscribe: (name, callback) => callbacks.consent.push({ name, callback }) },
  };
  if (self.document) {
    const { customerPrivacy, ...globals } = apis;
    Object.assign(self, globals, { api: { customerPrivacy } });
    const script = document.createElement('script');
    script.textContent = code;
    document.head.append(script);
  } else {
    self.shopify = { extend: (point, extend) => point === 'WebPixel::Render' && extend({ ...apis, settings }) };
    (0, eval)(code);
  }
  post({ started: true });
}

const deliver = (subscribed, event, value) => {
  subscribed.filter(({ name }) => name === event).forEach(({ callback }) => callback(value));
};

self.addEventListener('message', ({ data }) => {
  if (data.start) start(data.start);
  if (data.event) {
    deliver(callbacks.events, 'all_standard_events', data.event);
    post({ delivered: data.event.id });
  }
  if (data.consent) deliver(callbacks.consent, 'visitorConsentCollected', { customerPrivacy: data.consent });
  if (data.answer) answers.get(data.answer.id)(data.answer.result);
});
post({ loaded: true });
