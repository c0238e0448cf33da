// How does the page say what just happened? In one line that assistive technology reads out, with undo while it lasts.

let timer = 0;

/** Show a message; with `until` (a Date) it counts the seconds down and then leaves. */
export function toast(text, { until = null, action = null, long = false } = {}) {
  const box = document.querySelector("#toast");
  clearInterval(timer);
  box.hidden = false;
  const label = box.querySelector("[data-text]");
  const button = box.querySelector("button");
  button.hidden = action === null;
  if (action) {
    button.firstChild.textContent = action.label;
    button.onclick = action.run;
  }
  label.textContent = text;
  const ends = until ? until.getTime() : Date.now() + (long ? 8000 : 4000);
  const counter = box.querySelector("[data-seconds]");
  const tick = () => {
    const left = Math.ceil((ends - Date.now()) / 1000);
    counter.textContent = until && left > 0 ? `${left} s` : "";
    if (left <= 0) hideToast();
  };
  tick();
  timer = setInterval(tick, 250);
}

export function hideToast() {
  clearInterval(timer);
  document.querySelector("#toast").hidden = true;
}
