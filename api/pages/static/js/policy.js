// How is a policy changed without surprises? Tried on the past first, then watched, then saved over the version one has read.

import { Problem, send } from "./http.js";

const root = document.querySelector(".policy");
const query = `?platform=${encodeURIComponent(root.dataset.platform)}`;
const said = document.querySelector("#said");

function say(text, kind = "") {
  said.hidden = false;
  said.dataset.kind = kind;
  said.textContent = text;
}

const written = () => JSON.parse(document.querySelector("#document").value);

const guarded = (action) => async () => {
  try {
    await action();
  } catch (error) {
    if (error instanceof SyntaxError) say(`This is not JSON: ${error.message}`, "danger");
    else if (error instanceof Problem) say(error.errors.map(({ pointer, detail }) => `${pointer}: ${detail}`).join("; ") || error.message, "danger");
    else throw error;
  }
};

const line = (text, className = "") => Object.assign(document.createElement("p"), { textContent: text, className });

async function backtest() {
  const result = await send("POST", `/v1/policy/backtest${query}`, { document: written() });
  const flips = result.flips.map(({ was, becomes, count }) => line(`${count} × ${was ?? "nothing"} → ${becomes}`));
  const summary = line(`${result.judged} findings judged${result.truncated ? " (the newest)" : ""}: ` +
    Object.entries(result.becomes).map(([outcome, count]) => `${count} ${outcome}`).join(", "), "soft");
  document.querySelector("#flips").replaceChildren(summary, ...(flips.length ? flips : [line("Nothing would change.")]));
  document.querySelector("#result").hidden = false;
}

async function save() {
  const answer = await send("PUT", `/v1/policy${query}`, written(), { headers: { "If-Match": `"${root.dataset.version}"` } });
  location.assign(`/policy${query}#v${answer.version}`);
  location.reload();
}

async function watch() {
  await send("PUT", `/v1/policy/shadow${query}`, written());
  location.reload();
}

async function unwatch() {
  await send("DELETE", `/v1/policy/shadow${query}`);
  location.reload();
}

async function killSwitch() {
  const engaged = document.querySelector("#kill-switch").dataset.engage === "yes";
  await send("PUT", `/v1/policy/kill-switch${query}`, { engaged });
  location.reload();
}

for (const [id, action] of Object.entries({ backtest, save, watch, unwatch, "kill-switch": killSwitch })) {
  document.querySelector(`#${id}`)?.addEventListener("click", guarded(action));
}
