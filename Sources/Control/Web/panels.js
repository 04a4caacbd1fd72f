// The panels beside the tiles, one at a time; questions; and keys.

import { element } from "/assets/page.js";

const PANELS = { chat: "chat-toggle", more: "more-toggle" };
// Below it a panel covers the tiles.
const NARROW = matchMedia("(max-width: 600px)");
const KEYS = { m: "mute", v: "hide", s: "share", c: "chat-toggle" };

let unread = 0;
let isChatDeclined = false;

/** @param {() => boolean} hasShortcuts Whether letters are shortcuts now. */
export function startPanels(hasShortcuts) {
  for (const [panel, button] of Object.entries(PANELS)) {
    element(button).addEventListener("click", () => {
      if (!element(panel).hidden) {
        close(panel);
        return;
      }
      showPanel(panel);
      if (panel === "chat") element("chat-text").focus();
    });
    element(panel).querySelector(".close").addEventListener("click", () => close(panel));
    element(panel).addEventListener("keydown", (event) => event.key === "Escape" && close(panel));
  }
  document.addEventListener("keydown", (event) => pressKey(event, hasShortcuts));
}

/** Shows one panel, or none. */
export function showPanel(shown) {
  for (const [panel, button] of Object.entries(PANELS)) {
    element(panel).hidden = panel !== shown;
    element(button).setAttribute("aria-expanded", String(panel === shown));
  }
  if (shown !== "chat") return;
  isChatDeclined = false;
  setUnread(0);
}

/** Opens the chat for a message, or counts it: where the chat would cover something, or somebody has closed it. */
export function offerChat() {
  if (NARROW.matches || !element("more").hidden || isChatDeclined) setUnread(unread + 1);
  else showPanel("chat");
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

function close(panel) {
  showPanel(null);
  if (panel === "chat") isChatDeclined = true;
  element(PANELS[panel]).focus();
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
