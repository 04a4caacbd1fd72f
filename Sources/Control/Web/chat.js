// The chat: what is said to all, and lost when the page is closed.

import { element } from "/assets/page.js";

const MAXIMUM_LENGTH = 2000;
// A room may be open for days: older messages give way.
const MAXIMUM_COUNT = 500;

/** @param {(text: string) => Promise<void>} send Says it to the others. */
export function startChat(send, onError) {
  element("chat-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = element("chat-text").value.trim();
    if (!text) return;
    element("chat-text").value = "";
    try {
      await send(text);
      showMessage("You", text);
    } catch (error) {
      // Nothing that was typed is lost.
      element("chat-text").value = text;
      onError(error);
    }
  });
}

/** Lists a message. */
export function showMessage(from, text) {
  const item = document.createElement("li");
  const name = document.createElement("strong");
  name.textContent = `${from}: `;
  item.append(name, text.slice(0, MAXIMUM_LENGTH));
  const list = element("messages");
  list.append(item);
  while (list.children.length > MAXIMUM_COUNT) list.firstElementChild.remove();
  list.scrollTop = list.scrollHeight;
}

export function clearChat() {
  element("messages").replaceChildren();
}
