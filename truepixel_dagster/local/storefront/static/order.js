const at = (id) => document.getElementById(id);
const id = location.pathname.split("/").pop();
const began = Date.now();
const cell = (text, className = "") => Object.assign(document.createElement("td"), { textContent: text ?? "–", className });
let newest = "";

function show({ order, models }) {
  const chosen = at("model").value || "last_click";
  at("model").replaceChildren(...models.map((model) => new Option(model.replaceAll("_", " "), model, false, model === chosen)));
  at("credits").replaceChildren(
    ...(order.credits[at("model").value] || []).map(({ channel, platform, campaign, amount }) => {
      const row = document.createElement("tr");
      row.append(cell(amount, "number"), cell(channel), cell(platform), cell(campaign));
      return row;
    }),
  );
  at("touches").replaceChildren(
    ...order.touches.map(({ at: when, channel, platform, campaign }) => {
      const what = [channel, platform, campaign].filter(Boolean).join(" · ");
      return Object.assign(document.createElement("li"), { textContent: `${new Date(when).toLocaleString()}: ${what}` });
    }),
  );
  if (!order.touches.length) at("touches").textContent = "No ad: the order is direct.";
  at("found").hidden = false;
}

async function look() {
  const answer = await fetch(`/api/orders/${id}`).catch(() => null);
  const found = answer ? await answer.json() : { reason: "the demo has ended" };
  if (!answer?.ok) {
    at("said").textContent = `Waiting: ${found.reason}`;
  } else if (found.order && JSON.stringify(found) !== newest) {
    const seconds = newest ? "" : ` It took ${((Date.now() - began) / 1000).toFixed(0)} seconds.`;
    newest = JSON.stringify(found);
    at("said").className = "";
    at("said").textContent = `Order ${id}, ${found.order.value}, is attributed in Elasticsearch.${seconds}`;
    at("model").onchange = () => show(found);
    show(found);
  }
  setTimeout(look, newest ? 5000 : 1000);
}

look();
