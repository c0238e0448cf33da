// What does the reviewer read beside the picture? The verdict in one sentence, then what speaks for it and against it.
// Everything that came from outside is set as text, never as markup.

const node = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

const badge = (kind, text = kind) => {
  const element = node("span", { className: "badge", textContent: text });
  element.dataset.kind = kind;
  return element;
};

const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)} %`;
const day = (value) => new Date(value).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

function section(title, ...content) {
  const filled = content.flat().filter(Boolean);
  return filled.length === 0 ? null : node("section", { className: "facts" }, node("h3", { textContent: title }), ...filled);
}

function pairs(rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  if (known.length === 0) return null;
  return node("dl", { className: "pairs" }, ...known.flatMap(([name, value]) => [
    node("dt", { textContent: name }), node("dd", { textContent: String(value) })]));
}

function verdict(review) {
  const { label, score, probability } = review.verdict;
  const meter = node("div", { className: "meter" }, node("span"));
  meter.dataset.kind = label;
  meter.firstChild.style.width = `${100 * score}%`;
  meter.setAttribute("role", "img");
  meter.setAttribute("aria-label", `Score ${score.toFixed(2)} of 1; decided at 0.5`);
  const numbers = probability === null ? `Score ${score.toFixed(2)}, not calibrated` : `Score ${score.toFixed(2)}, probability ${percent(probability)}`;
  return node("section", { className: "verdict" },
    node("div", { className: "row between" }, badge(label), node("span", { className: "faint small", textContent: numbers })),
    node("p", { className: "sentence", textContent: review.sentence }), meter);
}

function where(review) {
  const { area_fraction: area, extent, regions } = review.localization;
  if (extent === "unlocalized") return section("Where", node("p", { className: "soft", textContent: "Localization was skipped for this image." }));
  if (regions.length === 0 && area === 0) return section("Where", node("p", { textContent: "No place in the image is marked." }));
  const count = regions.length === 1 ? "1 region" : `${regions.length} regions`;
  return section("Where", node("p", { textContent: `${count}, ${percent(area, 1)} of the image (${extent}).` }));
}

const reasons = (review) => section("Reasons", ...review.reasons.map(({ text }) => node("p", { className: "notice small", textContent: text })));

function conflicts(review) {
  const found = review.provenance?.conflicts ?? [];
  return found.map(({ text }) => {
    const notice = node("p", { className: "notice small", textContent: text });
    notice.dataset.kind = "conflict";
    notice.setAttribute("role", "alert");
    return notice;
  });
}

/** Hidden until asked for: where somebody was is nobody's business by default. */
function place(gps, locate) {
  if (gps !== "hidden") return null;
  const shown = node("dd", {});
  const button = node("button", { type: "button", className: "small quiet", textContent: "Show (is recorded)" });
  button.addEventListener("click", () => locate(shown));
  shown.append(button);
  return node("dl", { className: "pairs" }, node("dt", { textContent: "Location" }), shown);
}

function provenance(review, { onLocate }) {
  const { provenance: found } = review;
  if (!found) return null;
  const states = {
    absent: "No manifest, which proves nothing",
    valid: "Signed, and the signature holds",
    invalid: "Signed, but the signature is broken",
    untrusted: "Signed by nobody we know",
    unreadable: "A manifest that cannot be read",
  };
  const jpeg = found.jpeg ? `about ${found.jpeg.quality}${found.jpeg.standard ? "" : ", unusual tables"}` : null;
  const thumbnail = found.thumbnail?.present ? (found.thumbnail.mismatch ? "differs from the image" : "matches the image") : null;
  const rows = [
    ["C2PA", states[found.c2pa.state] ?? found.c2pa.state], ["Signed by", found.c2pa.signer], ["Made with", found.c2pa.generator],
    ...(found.c2pa.claims ?? []).map(({ label, text }) => [label, text]),
    ["JPEG quality", jpeg], ["Thumbnail", thumbnail],
    ...(found.exif ?? []).map(({ name, value }) => [name, value]),
  ];
  return section("Provenance", pairs(rows), place(found.gps, onLocate));
}

function submission(review) {
  const sent = review.submission;
  const metadata = Object.entries(sent.metadata ?? {}).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : value]);
  return section("What the platform sent", pairs([
    ["Platform", review.platform.name], ["Reference", sent.client_ref], ["File", sent.filename], ["Source", sent.source?.url ?? sent.source?.object],
    ["Priority", sent.priority], ["Received", day(sent.created_at)], ...metadata]));
}

function similar(review) {
  const cases = review.similar.map((past) => {
    const picture = node("img", { className: "thumb blurred", src: past.thumbnail, alt: "", loading: "lazy" });
    const outcome = past.verdict ? badge(past.verdict) : node("span", { className: "faint small", textContent: "undecided" });
    return node("a", { className: "past", href: `/reviews/${past.review_id}` }, picture, outcome,
      node("span", { className: "faint small", textContent: past.transform === "same" ? `distance ${past.distance}` : past.transform.replace("_", " ") }));
  });
  const { pending } = review.cluster ?? { pending: 0 };
  const cluster = pending > 0 ? node("a", { href: `/reviews/${review.id}/cluster`, textContent: `See ${pending} waiting look-alike${pending === 1 ? "" : "s"}` }) : null;
  return section("Similar cases", cases.length ? node("div", { className: "past-cases" }, ...cases) : null, cluster);
}

const policy = (review) => section("Policy", node("p", { className: "soft policy-text", textContent: review.policy.text || "No text was written." }),
  pairs([["Rule", review.policy.rule], ["Outcome", review.policy.outcome], ["Version", review.policy.version]]));

const corrections = (review) => section("Corrected masks", ...review.corrections.map(({ version, iou, by_me: mine, created_at: at }) =>
  node("p", { className: "small", textContent: `Version ${version}: IoU ${iou.toFixed(2)} with the model's mask, ${mine ? "mine" : "a colleague's"}, ${day(at)}` })));

/** What a review is, for somebody who cannot decide it now. */
export function standing(review) {
  const last = review.decisions.filter(({ settled_at: at }) => at).at(-1);
  if (review.state === "withdrawn") return "The platform erased this image, and with it the review.";
  if (review.state === "decided" && last) return `Decided: ${last.verdict}, ${last.action}${last.reverses ? " (reversed)" : ""}, ${day(last.settled_at)}.`;
  if (review.undo_until) return "Your decision settles in a moment.";
  if (review.state === "claimed") return "A colleague has this image. You can look, but not decide.";
  return review.lead_only ? "This image waits for a lead." : "This image is not yours to decide.";
}

function decided(review, { leads, onReverse }) {
  const rows = review.decisions.map((made) => {
    const who = made.by_me ? "me" : `${made.reviewer.slice(0, 12)}…`;
    const state = made.undone_at ? "undone" : made.reverses ? "reversal" : made.stage;
    const line = node("li", {}, node("div", { className: "row" }, badge(made.verdict), node("span", { className: "small", textContent: made.action }), node("span", { className: "faint small", textContent: state })),
      node("span", { className: "faint small", textContent: `${who}, ${day(made.created_at)}, ${made.seconds.toFixed(0)} s` }),
      made.note ? node("p", { className: "small", textContent: made.note }) : null);
    if (made.undone_at) line.dataset.undone = "yes";
    return line;
  });
  if (rows.length === 0) return null;
  const acts = review.state === "decided" && leads ? node("div", { className: "row" },
    node("a", { className: "button small", href: `${review.links.self}/evidence`, download: "", textContent: "Evidence pack" }),
    Object.assign(node("button", { type: "button", className: "small", textContent: "Reverse" }), { onclick: onReverse })) : null;
  return section("Decisions", node("ol", { className: "decisions" }, ...rows), acts);
}

const versions = (review) => section("Made by", pairs([["Model", review.versions?.model], ["Weights", review.versions?.weights_sha256?.slice(0, 12)],
  ["Screening", review.screening_id]]), node("a", { className: "small", href: review.links.screening, textContent: "The screening and its story" }));

/** Fill the side panel for one review; `may` says whether the reader leads, and what its buttons do. */
export function fillPanel(panel, review, may) {
  panel.replaceChildren(...[verdict(review), decided(review, may), ...conflicts(review), reasons(review), where(review), similar(review), provenance(review, may),
    submission(review), policy(review), corrections(review), versions(review)].filter(Boolean));
  panel.scrollTop = 0;
}
