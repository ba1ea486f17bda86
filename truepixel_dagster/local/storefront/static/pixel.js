// Sends events as Shopify passes them to a pixel: https://shopify.dev/docs/api/web-pixels-api/standard-events
let seq = 0;
let sending = Promise.resolve();

export function clientId() {
  const known = localStorage.getItem("client");
  const id = known || crypto.randomUUID();
  if (!known) localStorage.setItem("client", id);
  return id;
}

function event(name, data) {
  const { href, hash, host, hostname, origin, pathname, port, protocol, search } = location;
  const place = { href, hash, host, hostname, origin, pathname, port, protocol, search };
  const { language, languages, cookieEnabled, userAgent } = navigator;
  const { innerHeight, innerWidth, outerHeight, outerWidth, scrollX, scrollY } = window;
  return {
    id: `sh-${crypto.randomUUID()}`,
    name,
    clientId: clientId(),
    timestamp: new Date().toISOString(),
    type: "standard",
    seq: ++seq,
    data,
    context: {
      document: { location: place, referrer: document.referrer, characterSet: document.characterSet, title: document.title },
      navigator: { language, languages, cookieEnabled, userAgent },
      window: { innerHeight, innerWidth, outerHeight, outerWidth, scrollX, scrollY, location: place, origin },
    },
  };
}

// One request after the other, so that the events arrive in order.
export function send(shop, ...events) {
  const body = JSON.stringify(events.map(([name, data]) => event(name, data)));
  const post = () =>
    fetch(`${shop.collector}/v1/pixel?token=${encodeURIComponent(shop.token)}`, {
      method: "POST", body, headers: { "Content-Type": "text/plain" }, keepalive: true,
    });
  sending = sending.then(async () => {
    for (let tries = 0; tries < 5; tries++) {
      const answer = await post().catch(() => null);
      await answer?.text();
      if (answer && answer.status !== 503 && answer.status !== 429) return;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  });
  return sending;
}
