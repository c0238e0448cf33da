// Which key does what? The reviewer's own map, dead while somebody types, and off altogether if they want.

const TYPING = "input:not([type=checkbox], [type=radio], [type=range]), textarea, select, [contenteditable]";

/** The name of a key as settings spell it: "Space" for the space bar, else KeyboardEvent.key, letters in lower case. */
export const keyName = (event) => (event.key === " " ? "Space" : event.key.length === 1 ? event.key.toLowerCase() : event.key);

/** How a key is shown on the page. */
export const keyLabel = (name) => ({ Space: "Space", Enter: "↵", " ": "Space" })[name] ?? name;

/**
 * Listens for keys and calls `handlers[action](event)` on press and `released[action](event)` on release.
 *
 * @param {{keys: Object<string, string|null>, enabled: boolean, handlers: Object<string, Function>,
 *          released?: Object<string, Function>, digit?: (n: number) => void}} options
 */
export function listen({ keys, enabled, handlers, released = {}, digit = () => {} }) {
  const actionOf = new Map(Object.entries(keys).filter(([, key]) => key).map(([action, key]) => [key, action]));
  const action = (event) => {
    if (!enabled || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return null;
    if (event.target.closest?.(TYPING) || (event.target.closest?.("dialog[open]") && event.key !== "Escape")) return null;
    const name = keyName(event);
    // Space and Enter press the button that has the focus; a shortcut must not take that from keyboard users.
    if ((name === "Space" || name === "Enter") && event.target.closest?.("button, a, summary, label")) return null;
    return actionOf.get(name) ?? (/^[0-9]$/.test(name) ? `digit-${name}` : null);
  };
  document.addEventListener("keydown", (event) => {
    const name = action(event);
    if (name === null) return;
    if (name.startsWith("digit-")) {
      if (!event.repeat) digit(Number(name.slice(6)), event);
    } else if (handlers[name]) {
      event.preventDefault();
      handlers[name](event);
    }
  });
  document.addEventListener("keyup", (event) => {
    const name = actionOf.get(keyName(event));
    if (name !== undefined) released[name]?.(event);
  });
  // A window that loses the focus never sees the key come up.
  addEventListener("blur", () => Object.values(released).forEach((release) => release()));
}
