const at = (id) => document.getElementById(id);
const wanted = new URLSearchParams(location.search);

const cell = (text, isNumber, kind = "td") =>
  Object.assign(document.createElement(kind), { textContent: text, className: isNumber ? "number" : "", ...(kind === "th" ? { scope: "col" } : {}) });

function row(names, figures, kind) {
  const made = document.createElement("tr");
  made.append(...names.map((name) => cell(name, false, kind)), ...figures.map((figure) => cell(figure, true, kind)));
  return made;
}

function choose(select, values, chosen) {
  select.replaceChildren(...values.map((value) => new Option(value.replaceAll("_", " "), value, false, value === chosen)));
}

async function look() {
  const query = new URLSearchParams({ by: at("by").value, model: at("model").value || "last_click", shop: at("shop").value || wanted.get("shop") || "" });
  const answer = await fetch(`/api/report?${query}`).catch(() => null);
  const found = answer ? await answer.json() : { reason: "the demo has ended" };
  if (!answer?.ok) {
    at("said").textContent = `Waiting: ${found.reason}`;
    return;
  }
  choose(at("shop"), found.shops.includes(found.shop) ? found.shops : [found.shop, ...found.shops], found.shop);
  choose(at("model"), found.models, query.get("model"));
  at("id").textContent = found.shop;
  at("said").textContent = `${found.orders.toLocaleString()} orders, ${found.visitors.toLocaleString()} visitors this week`;
  at("head").replaceChildren(row(found.names, found.figures, "th"));
  at("rows").replaceChildren(...found.rows.map(({ cells, figures }) => row(cells, figures)));
  at("totals").replaceChildren(...found.totals.map(({ cells, figures }) => row(cells, figures)));
}

for (const id of ["shop", "by", "model"]) at(id).onchange = look;
await look();
setInterval(look, 5000);
