// How are many copies decided at once without deciding what nobody looked at? Dry run first; its digest names what was shown.

import { Problem, get, send } from "./http.js";

const members = document.querySelector("#members");
const base = `/v1/reviews/${members.dataset.review}`;
const $ = (selector) => document.querySelector(selector);
let digest = null;

function say(text, kind = "") {
  $("#said").hidden = false;
  $("#said").dataset.kind = kind;
  $("#said").textContent = text;
}

const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

function card(row) {
  const picture = make("img", { className: "blurred", src: row.links.thumbnail, alt: "", width: 160, height: 120 });
  const how = row.transform === "same" ? `distance ${row.distance}` : `${row.transform.replaceAll("_", " ")}, distance ${row.distance}`;
  return make("li", {}, make("a", { className: "item", href: row.links.page }, picture,
    make("span", { textContent: `risk ${row.risk.toFixed(2)}` }), make("span", { className: "faint small", textContent: how })));
}

function show({ data }) {
  members.replaceChildren(...data.map(card));
}

const choice = () => {
  const note = $("#note").value.trim();
  return { verdict: $("#verdict").value, ...(note ? { note } : {}) };
};

const guarded = (action) => async () => {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    digest = null;
    if ($("#decide")) $("#decide").disabled = true;
    say(error.message, "danger");
  }
};

async function dryRun() {
  const answer = await send("POST", `${base}/bulk`, { dry_run: true, ...choice() });
  digest = answer.digest;
  show(answer);
  $("#decide").disabled = answer.count === 0;
  say(`This decides ${answer.count} image${answer.count === 1 ? "" : "s"} as ${choice().verdict}.`);
}

async function decide() {
  const answer = await send("POST", `${base}/bulk`, { dry_run: false, digest, ...choice() });
  say(`Decided ${answer.count} images.`);
  $("#decide").disabled = true;
  $("#undo").hidden = false;
  $("#undo").onclick = guarded(async () => {
    await send("POST", `/v1/reviews/bulk/${answer.bulk_id}/undo`);
    say("Undone.");
    $("#undo").hidden = true;
  });
}

for (const [id, action] of [["#dry-run", dryRun], ["#decide", decide]]) $(id)?.addEventListener("click", guarded(action));
for (const id of ["#verdict", "#note"]) $(id)?.addEventListener("input", () => { $("#decide").disabled = true; });

guarded(async () => {
  const answer = await get(`${base}/cluster`);
  show(answer);
  if (answer.data.length === 0) say("No other waiting image looks like this one.");
})();
