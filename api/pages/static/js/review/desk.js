// How does one person decide hundreds of images? Claim, look, two keys, next; the next one is already here.

import { Problem, get, putBytes, send } from "../http.js";
import { keyLabel, listen } from "../keymap.js";
import { Brush } from "./brush.js";
import { Loupe } from "./loupe.js";
import { fillPanel, standing } from "./panel.js";
import { hideToast, toast } from "./toast.js";
import { Viewer, fetchBitmaps, fetchPicture } from "./viewer.js";

const boot = JSON.parse(document.querySelector("#boot").textContent);
const $ = (selector) => document.querySelector(selector);
const EXTEND_EVERY = 3 * 60 * 1000; // a lease lasts ten minutes
const LOOK_AGAIN = 10 * 1000; // with nothing to do

const viewer = new Viewer($("#stage"), boot.settings, { onExposed: reportExposure });
const loupe = new Loupe($("#loupe"), viewer);
const brush = new Brush($("#brush"), viewer);

let current = null; // {review, token, picture, bitmaps}
let ahead = null; // a promise of the next one
let chosen = null; // the verdict that waits for its reason
let maskWrong = false;
let undoable = null; // the id of the last decision while its window is open

// ---- claiming ------------------------------------------------------------------------------------------------------

async function claim() {
  const body = boot.queue ? { queue: boot.queue, platform: boot.platform } : {};
  const answer = await send("POST", "/v1/reviews/claim", body);
  return answer && prepare(answer);
}

/** Start fetching what an item needs, so that it is all here, decoded, when its turn comes. */
function prepare({ review, lease }) {
  const gone = review.state === "withdrawn";
  const [picture, bitmaps] = gone ? [null, null] : [fetchPicture(review), fetchBitmaps(review)];
  for (const wanted of [picture, bitmaps]) wanted?.catch(() => {}); // reported where it is awaited
  return { review, token: lease?.token ?? null, picture, bitmaps };
}

async function next() {
  const item = (await (ahead ?? claimOrResume())) ?? (await resume());
  ahead = null;
  if (!item) return showEmpty();
  await show(item);
  fetchAhead();
  return undefined;
}

function fetchAhead() {
  $("#desk").dataset.ahead = "";
  ahead = claim().catch((error) => (error instanceof Problem ? null : Promise.reject(error)));
  const wanted = ahead;
  wanted.then((item) => item && Promise.all([item.picture, item.bitmaps]).then(() => {
    if (ahead === wanted) $("#desk").dataset.ahead = item.review.id;
  })).catch(() => {}); // reported when its turn comes
}

async function claimOrResume() {
  try {
    return await claim();
  } catch (error) {
    if (error.code !== "too_many_claims") throw error;
    return resume();
  }
}

/** What is still mine from a window that was closed. */
async function resume() {
  const { data } = await get("/v1/reviews?mine=true&state=claimed&limit=1");
  return data.length === 0 ? null : prepare(await send("POST", `/v1/reviews/${data[0].id}/claim`));
}

async function show(item) {
  viewer.close();
  loupe.close();
  brush.reset();
  current = item;
  const { review } = item;
  $("#desk").dataset.reading = item.token ? "" : "yes";
  $("#standing").textContent = item.token ? "" : standing(review);
  choose(null);
  setMaskWrong(false);
  $("#desk").hidden = false;
  $("#nothing").hidden = true;
  fillPanel($("#panel"), review, { leads: boot.leads.includes(review.platform.id), onReverse: guarded(reverse), onLocate: guarded(locate) });
  offerReasons(review);
  $("#position").textContent = "";
  history.replaceState(null, "", `/reviews/${review.id}${queueOf(boot)}`);
  document.title = `${review.verdict.label} ${review.verdict.score.toFixed(2)} · Review · Assay`;
  if (review.undo_until) offerUndo(review, review.undo_until);
  await viewer.show(item);
  $("#desk").dataset.ready = review.id;
}

/** The queue that is being worked, kept in the address so that a reload goes on with it. */
function queueOf({ queue, platform }) {
  return queue ? `?${new URLSearchParams({ queue, platform })}` : "";
}

function showEmpty() {
  current = null;
  viewer.close();
  $("#desk").hidden = true;
  $("#nothing").hidden = false;
  $("#nothing").focus();
  lookAgain();
}

/** With nothing to do, see now and then whether something came. */
function lookAgain() {
  clearTimeout(lookAgain.timer);
  lookAgain.timer = setTimeout(guarded(async () => {
    if (current || ahead) return;
    if (document.hidden) return lookAgain();
    await next();
  }), LOOK_AGAIN);
}

// ---- deciding ------------------------------------------------------------------------------------------------------

function choose(verdict) {
  if (verdict && !current?.token) return;
  chosen = verdict;
  $("#desk").dataset.chosen = verdict ?? "";
  for (const button of document.querySelectorAll("[data-verdict]")) button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
  $("#reasons").hidden = verdict === null;
  if (verdict && current) offerReasons(current.review);
}

function offerReasons(review) {
  const offered = review.policy.reasons.filter(({ verdict }) => !verdict || !chosen || verdict === chosen).slice(0, 9);
  $("#reason-list").replaceChildren(...offered.map(({ code, label }, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.reason = code;
    button.append(Object.assign(document.createElement("kbd"), { textContent: String(index + 1) }), ` ${label}`);
    button.addEventListener("click", () => decide(code));
    return button;
  }));
}

async function decide(reason = null) {
  if (!chosen || !current?.token) return;
  const { review, token } = current;
  const verdict = chosen;
  choose(null);
  await saveCorrection();
  const note = $("#note").value.trim();
  const feedback = maskWrong ? { mask_feedback: "wrong" } : {};
  const body = { lease_token: token, verdict, ...feedback, ...(reason ? { reason } : {}), ...(note ? { note } : {}) };
  const answer = await send("POST", `/v1/reviews/${review.id}/decision`, body);
  $("#note").value = "";
  offerUndo({ ...review, decided: verdict }, answer.undo_until);
  count(1);
  await next();
}

function offerUndo(review, undoUntil) {
  undoable = review.id;
  const until = new Date(undoUntil);
  setTimeout(() => { if (undoable === review.id) undoable = null; }, until.getTime() - Date.now());
  toast(review.decided ? `Decided: ${review.decided}.` : "You decided this a moment ago.", { until, action: { label: "Undo ", run: guarded(undo) } });
}

async function undo() {
  if (!undoable) return toast("Nothing to undo.");
  const id = undoable;
  undoable = null;
  const held = current;
  const item = prepare(await send("POST", `/v1/reviews/${id}/undo`));
  // What was on the table goes back on the pile, first in line.
  if (held) putBack(held);
  hideToast();
  count(-1);
  await show(item);
  return undefined;
}

function putBack(held) {
  const further = ahead;
  ahead = Promise.resolve(held);
  if (further) further.then((item) => item && send("POST", `/v1/reviews/${item.review.id}/release`, { lease_token: item.token })).catch(() => {});
}

async function escalate() {
  if (!current?.token) return;
  const reason = await ask($("#escalate-dialog"));
  if (!reason || !current) return;
  await send("POST", `/v1/reviews/${current.review.id}/escalate`, { lease_token: current.token, reason });
  toast("Handed to a lead.");
  await next();
}

async function skip() {
  if (!current?.token) return;
  const reason = await ask($("#skip-dialog"));
  if (!reason || !current) return;
  await send("POST", `/v1/reviews/${current.review.id}/skip`, { lease_token: current.token, reason });
  toast("Skipped.");
  await next();
}

/** Replace a final decision; the platform hears of it. */
async function reverse() {
  const { review } = current;
  const verdict = review.verdict_decided === "fake" ? "authentic" : "fake";
  $("#reversal-verdict").textContent = verdict;
  const note = await ask($("#reverse-dialog"));
  if (!note) return;
  await send("POST", `/v1/reviews/${review.id}/reversal`, { verdict, note });
  toast(`Reversed: ${verdict}. The platform is told.`);
  await show(prepare({ review: await whole(review.id) }));
}

/** Where the image was taken, once, for who asks; the asking is recorded. */
async function locate(target) {
  const { gps } = await send("POST", `/v1/reviews/${current.review.id}/gps`);
  target.replaceChildren(`${gps.latitude.toFixed(5)}, ${gps.longitude.toFixed(5)}`);
}

/** Open a dialog with one form; resolves to the value of its field, or null when it was closed. */
function ask(dialog) {
  dialog.returnValue = "";
  dialog.querySelector("form").reset();
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok" ? new FormData(dialog.querySelector("form")).get("reason") : null), { once: true });
  });
}

async function saveCorrection() {
  const png = await brush.png();
  if (!png) return;
  const { version, iou } = await putBytes(`/v1/reviews/${current.review.id}/correction`, png, { "X-Lease-Token": current.token });
  brush.reset();
  toast(`Correction ${version} saved: IoU ${iou.toFixed(2)} with the model's mask.`);
}

function setMaskWrong(wrong) {
  maskWrong = wrong;
  $("#mask-wrong").setAttribute("aria-pressed", String(wrong));
}

function count(by) {
  const decided = $("#decided");
  decided.textContent = String(Number(decided.textContent) + by);
}

// ---- looking -------------------------------------------------------------------------------------------------------

function reportExposure(review, seconds) {
  if (review && seconds >= 0.1) send("POST", `/v1/reviews/${review.id}/exposure`, { seconds: Math.min(600, Math.round(seconds * 10) / 10) }, { keepalive: true }).catch(() => {});
}

function walk(step) {
  const region = viewer.walk(step);
  $("#position").textContent = region
    ? `Region ${region.index + 1} of ${region.count}: ${(100 * region.area_fraction).toFixed(1)} % of the image, mean ${region.mean.toFixed(2)}`
    : "No region to walk to.";
  if (loupe.open && region) loupe.centre = { x: region.bbox[0] + region.bbox[2] / 2, y: region.bbox[1] + region.bbox[3] / 2 };
  if (loupe.open) loupe.draw();
}

function tool(name) {
  if (!viewer.sources) return;
  const active = brush.choose(name);
  for (const button of document.querySelectorAll("button[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === active));
}

// ---- keys and buttons ----------------------------------------------------------------------------------------------

/** Run an action; what goes wrong is said, and a lease that was lost leads to the next item. */
const guarded = (action) => async (event) => {
  try {
    await action(event);
  } catch (error) {
    if (!(error instanceof Problem) && !(error instanceof TypeError)) throw error;
    toast(error instanceof Problem ? error.message : "The server did not answer. Try again.", { long: true });
    if (["lease_lost", "withdrawn"].includes(error.code)) await next();
  }
};

const handlers = {
  authentic: () => choose(chosen === "authentic" ? null : "authentic"),
  fake: () => choose(chosen === "fake" ? null : "fake"),
  confirm: guarded(() => decide()),
  undo: guarded(undo),
  escalate: guarded(escalate),
  skip: guarded(skip),
  contour: () => viewer.setMode("contour"),
  fill: () => viewer.setMode("fill"),
  heat: () => viewer.setMode("heat"),
  opacity_down: () => viewer.changeOpacity(-0.1),
  opacity_up: () => viewer.changeOpacity(0.1),
  hide_mask: () => viewer.hideMask(true),
  reveal: () => viewer.reveal(true),
  loupe: guarded(() => loupe.toggle(current?.review.localization.regions[viewer.region])),
  next_region: () => walk(1),
  previous_region: () => walk(-1),
  mask_wrong: () => setMaskWrong(!maskWrong),
  brush: () => tool("brush"),
  eraser: () => tool("eraser"),
  help: () => ($("#help").open ? $("#help").close() : $("#help").showModal()),
};

/** While a verdict waits for its reason a digit names the reason; before that it is a key like any other. */
function digit(number, event) {
  if (chosen === null) return;
  event.preventDefault();
  const button = $("#reason-list").children[number - 1];
  if (button) guarded(() => decide(button.dataset.reason))();
}

function withDigits(keys) {
  return Object.fromEntries(Object.entries(keys).filter(([, key]) => !/^[0-9]$/.test(key ?? "")));
}

const onDigitAction = Object.fromEntries(Object.entries(boot.settings.keys).filter(([, key]) => /^[0-9]$/.test(key ?? "")).map(([action, key]) => [Number(key), action]));

listen({
  keys: withDigits(boot.settings.keys),
  enabled: boot.settings.keys_enabled,
  handlers,
  released: { reveal: () => { if (!loupe.open) viewer.reveal(false); }, hide_mask: () => viewer.hideMask(false) },
  digit: (number, event) => (chosen === null ? handlers[onDigitAction[number]]?.(event) : digit(number, event)),
});

for (const button of document.querySelectorAll("[data-action]")) button.addEventListener("click", (event) => handlers[button.dataset.action](event));
for (const label of document.querySelectorAll("[data-key-of]")) label.textContent = keyLabel(boot.settings.keys[label.dataset.keyOf] ?? "–");
const hold = $("#hold-reveal");
hold.addEventListener("pointerdown", () => viewer.reveal(true));
for (const over of ["pointerup", "pointerleave", "pointercancel"]) hold.addEventListener(over, () => viewer.reveal(false));

addEventListener("pagehide", () => {
  viewer.close();
  const held = ahead;
  ahead = null;
  // What was only fetched ahead goes to somebody else at once; what is on the table stays mine while its lease lasts.
  held?.then((item) => item?.token && send("POST", `/v1/reviews/${item.review.id}/release`, { lease_token: item.token }, { keepalive: true })).catch(() => {});
});
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
document.addEventListener("visibilitychange", () => { if (document.hidden) viewer.close(); });
setInterval(() => {
  if (current?.token) guarded(() => send("POST", `/v1/reviews/${current.review.id}/extend`, { lease_token: current.token }))();
}, EXTEND_EVERY);

/** A review as it stands; `verdict` in lists is what was decided, on its own page what the detector said. */
async function whole(id) {
  const review = await get(`/v1/reviews/${id}`);
  return { ...review, verdict_decided: review.decisions.filter(({ settled_at: at }) => at).at(-1)?.verdict ?? null };
}

async function start() {
  if (!boot.review) return next();
  const review = await whole(boot.review);
  const item = review.state === "pending" ? await claimThis(review) : { review, lease: review.lease };
  return show(prepare(item));
}

/** Take this very review; where that may not be, look at it without deciding. */
async function claimThis(review) {
  try {
    return await send("POST", `/v1/reviews/${review.id}/claim`);
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 409) throw error;
    toast(error.message, { long: true });
    return { review, lease: null };
  }
}

guarded(start)();
