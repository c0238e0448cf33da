// How does a reviewer change their settings? By pressing the key they want, and saving.

import { Problem, send } from "./http.js";
import { keyName } from "./keymap.js";

const form = document.querySelector("#settings");
const said = document.querySelector("#said");

function say(text, kind = "") {
  said.hidden = false;
  said.dataset.kind = kind;
  said.textContent = text;
}

for (const field of form.querySelectorAll("[data-key]")) {
  field.addEventListener("keydown", (event) => {
    if (["Tab", "Shift", "Control", "Alt", "Meta", "Escape"].includes(event.key)) return;
    event.preventDefault();
    field.value = event.key === "Backspace" || event.key === "Delete" ? "" : keyName(event);
  });
}

function values() {
  const keys = Object.fromEntries([...form.querySelectorAll("[data-key]")].map((field) => [field.dataset.key, field.value || null]));
  return {
    keys,
    keys_enabled: form.keys_enabled.checked,
    blur: form.blur.checked,
    greyscale: form.greyscale.checked,
    theme: form.theme.value,
    reduced_motion: JSON.parse(form.reduced_motion.value),
    mask_mode: form.mask_mode.value,
    mask_opacity: Number(form.mask_opacity.value),
  };
}

const submitting = (action) => async (event) => {
  event.preventDefault();
  try {
    say(await action(event.target));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    say(error.errors?.[0]?.detail ?? error.message, "danger");
  }
};

form.addEventListener("submit", submitting(async () => {
  const chosen = values();
  await send("PATCH", "/v1/session/settings", chosen);
  const { dataset } = document.documentElement;
  dataset.theme = chosen.theme;
  dataset.motion = { null: "system", true: "reduce", false: "full" }[chosen.reduced_motion];
  return "Saved.";
}));

document.querySelector("#password").addEventListener("submit", submitting(async (target) => {
  await send("POST", "/v1/session/password", { current: target.current.value, new: target.new.value });
  target.reset();
  return "The password is changed; every other session of yours has ended.";
}));
