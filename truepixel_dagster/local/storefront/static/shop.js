import { clientId, send } from "./pixel.js";

const ADS = [
  ["Google Ads", "utm_source=google&utm_medium=cpc&utm_campaign=spring_sale", "gclid"],
  ["Instagram ad", "utm_source=instagram&utm_medium=paid_social&utm_campaign=new_arrivals", "fbclid"],
  ["TikTok ad", "utm_source=tiktok&utm_medium=paid_social&utm_campaign=summer_look", "ttclid"],
  ["Newsletter", "utm_source=klaviyo&utm_medium=email&utm_campaign=november_news", null],
  ["Partner's blog", "utm_source=partner-blog&utm_medium=affiliate&utm_campaign=gift_guide", null],
  ["No ad", "", null],
];
const SHIPPING = 500;

const at = (id) => document.getElementById(id);
const dollars = (cents) => new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" }).format(cents / 100);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function picture(handle) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `/static/pictures.svg#${handle}`);
  svg.setAttribute("class", "picture");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

const shop = await (await fetch("/api/shop")).json();
const products = new Map(shop.products.map((product) => [product.handle, product]));
const cart = new Map(JSON.parse(localStorage.getItem("cart") || "[]").filter(([handle]) => products.has(handle)));

const cartLine = (handle, quantity) => {
  const { variant, price } = products.get(handle);
  return { cost: { totalAmount: { amount: (price * quantity) / 100, currencyCode: "USD" } }, merchandise: variant, quantity };
};

function change(handle, by) {
  const quantity = (cart.get(handle) || 0) + by;
  quantity > 0 ? cart.set(handle, quantity) : cart.delete(handle);
  localStorage.setItem("cart", JSON.stringify([...cart]));
  send(shop, [by > 0 ? "product_added_to_cart" : "product_removed_from_cart", { cartLine: cartLine(handle, Math.abs(by)) }]);
  showCart();
}

function showCart() {
  const total = [...cart].reduce((sum, [handle, quantity]) => sum + products.get(handle).price * quantity, 0);
  at("count").textContent = [...cart.values()].reduce((sum, quantity) => sum + quantity, 0);
  at("total").textContent = cart.size ? dollars(total + SHIPPING) : "–";
  at("buy").disabled = !cart.size;
  at("lines").replaceChildren(
    ...[...cart].map(([handle, quantity]) => {
      const { title, price } = products.get(handle);
      const remove = element("button", { textContent: "Remove one", ariaLabel: `Remove one ${title}`, onclick: () => change(handle, -1) });
      return element("li", { className: "row" }, `${quantity} × ${title}`, element("span", {}, `${dollars(price * quantity)} `, remove));
    }),
  );
  if (!cart.size) at("lines").append(element("li", { className: "soft", textContent: "Your cart is empty." }));
}

async function buy() {
  at("buy").disabled = true;
  at("said").textContent = "Placing the order …";
  const body = JSON.stringify({
    cart: [...cart].map(([handle, quantity]) => ({ handle, quantity })),
    client_id: clientId(),
    landing: sessionStorage.getItem("landing"),
    referrer: sessionStorage.getItem("referrer"),
  });
  const answer = await fetch("/api/orders", { method: "POST", body, headers: { "Content-Type": "application/json" } }).catch(() => null);
  const placed = answer ? await answer.json() : { reason: "the demo has ended" };
  if (!answer?.ok) {
    at("said").textContent = `The order was not placed: ${placed.reason}.`;
    at("buy").disabled = false;
    return;
  }
  await send(shop, ["checkout_started", placed.started], ["checkout_completed", placed.completed]);
  cart.clear();
  localStorage.removeItem("cart");
  location.assign(`/orders/${placed.order}`);
}

if (location.search || !sessionStorage.getItem("landing")) {
  sessionStorage.setItem("landing", location.pathname + location.search);
  sessionStorage.setItem("referrer", document.referrer);
}
const clickId = () => crypto.randomUUID().replaceAll("-", "");
at("ads").append(
  ...ADS.map(([label, query, id]) => {
    const href = `/${query && "?"}${query}${id ? `&${id}=${clickId()}` : ""}`;
    return element("li", {}, element("a", { href, textContent: label }));
  }),
);
const campaign = new URLSearchParams(location.search).get("utm_campaign");
at("visit").textContent = campaign ? `You came through the campaign “${campaign}”.` : "You came without an ad.";
at("list").append(
  ...shop.products.map(({ handle, title, price, vendor, variant }) => {
    const add = () => {
      send(shop, ["product_viewed", { productVariant: variant }]);
      change(handle, 1);
    };
    return element(
      "li", { className: "card" },
      picture(handle),
      element("h3", { textContent: title }),
      element("p", { className: "soft", textContent: `${vendor} · ${dollars(price)}` }),
      element("button", { textContent: "Add to cart", ariaLabel: `Add ${title} to the cart`, onclick: add }),
    );
  }),
);
at("buy").onclick = buy;
at("again").onclick = () => {
  localStorage.clear();
  sessionStorage.clear();
  location.assign("/");
};
showCart();
send(shop, ["page_viewed", {}]);
