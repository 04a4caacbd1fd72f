// What the privacy banner says before a server has confirmed a mode.

import { element, showPrivacy } from "/assets/page.js";

/** With a key, a room is asked to be encrypted; nothing is claimed before the server has said that it is. */
export function showExpectedPrivacy(hasKey) {
  if (!hasKey) {
    showPrivacy("transport");
    return;
  }
  element("privacy").dataset.mode = "asked";
  element("privacy-title").textContent = "End-to-end encryption asked for, not confirmed yet";
  element("privacy-text").textContent =
    "With a key the room is joined only as an encrypted one. Nothing is sent before the server has confirmed that.";
}
