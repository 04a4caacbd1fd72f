// The panels beside the tiles, one at a time; questions; and keys.

import { element } from "/assets/page.js";

const PANELS = { chat: "chat-toggle", more: "more-toggle" };
const KEYS = { m: "mute", v: "hide", s: "share", c: "chat-toggle" };

let unread = 0;

/** @param {() => boolean} hasShortcuts Whether letters are shortcuts now. */
export function startPanels(hasShortcuts) {
  for (const [panel, button] of Object.entries(PANELS)) {
    element(button).addEventListener("click", () => {
      showPanel(element(panel).hidden ? panel : null);
      if (panel === "chat" && !element(panel).hidden) element("chat-text").focus();
    });
    element(panel).querySelector(".close").addEventListener("click", () => close(button));
    element(panel).addEventListener("keydown", (event) => event.key === "Escape" && close(button));
  }
  document.addEventListener("keydown", (event) => pressKey(event, hasShortcuts));
}

/** Shows one panel, or none. */
export function showPanel(shown) {
  for (const [panel, button] of Object.entries(PANELS)) {
    element(panel).hidden = panel !== shown;
    element(button).setAttribute("aria-expanded", String(panel === shown));
  }
  if (shown === "chat") setUnread(0);
}

/** One more message that was not seen. */
export function addUnread() {
  setUnread(unread + 1);
}

/** Says beside the chat's button how many messages were not seen. */
export function setUnread(count) {
  unread = count;
  element("unread").textContent = String(count);
  element("unread").hidden = count === 0;
  element("chat-toggle").setAttribute("aria-label", count > 0 ? `Chat, ${count} not read` : "Chat");
}

/**
 * Asks something in a dialog.
 *
 * @param {string} title
 * @param {{value: string, label: string}[]} choices
 * @returns {Promise<string>} The chosen value; empty when it was closed.
 */
export function ask(title, choices) {
  const dialog = element("dialog");
  element("dialog-title").textContent = title;
  const buttons = [...choices, { value: "", label: "Cancel" }].map(({ value, label }) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: label });
    button.dataset.value = value;
    button.addEventListener("click", () => dialog.close(value));
    return button;
  });
  element("dialog-choices").replaceChildren(...buttons);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

function close(button) {
  showPanel(null);
  element(button).focus();
}

/** Letters are shortcuts in the room, except where one types. */
function pressKey(event, hasShortcuts) {
  const isTyping = event.target.closest?.("input:not([type=checkbox]):not([type=radio]), select, textarea, dialog");
  if (isTyping || event.ctrlKey || event.altKey || event.metaKey || event.repeat || !hasShortcuts()) return;
  const button = element(KEYS[event.key.toLowerCase()] ?? "");
  // Who only watches has buttons that aren't shown.
  if (!button?.checkVisibility() || button.disabled) return;
  event.preventDefault();
  button.click();
}
