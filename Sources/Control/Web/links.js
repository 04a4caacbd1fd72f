// The links of a room, each with a button that copies it: the start page and the room page show them.

import { makeFragment } from "/assets/page.js";

/**
 * What a room is reached by.
 *
 * @param {string} identifier The room's id.
 * @param {string} key The key of an encrypted room; empty otherwise.
 * @returns {{id: string, label: string, note: string, url: string}[]} `url` is empty where there can be none.
 */
export function linksOf(identifier, key) {
  const page = `${location.origin}/room`;
  const stream = `${location.origin}/${identifier}/obs`;
  const others = key
    ? [
        { id: "link-whip", label: "OBS, by WHIP", note: "OBS can't publish to an encrypted room: it can't encrypt, and the server refuses it.", url: "" },
        { id: "link-whep", label: "Players, by WHEP", note: "Players can't show an encrypted room: they don't have its key.", url: "" },
      ]
    : [
        { id: "link-whip", label: "OBS, by WHIP", note: "The address to publish to from OBS or another WHIP program.", url: `${stream}/whip` },
        { id: "link-whep", label: "Players, by WHEP", note: "Where a WHEP player gets what OBS publishes.", url: `${stream}/whep` },
      ];
  return [
    { id: "link-join", label: "Invitation", note: "Whoever has it can join, see, hear and speak.", url: page + makeFragment({ identifier, key }) },
    { id: "link-view", label: "View only", note: "Opens the room to watch it, without a camera or a microphone. It locks nothing: who shortens it can join.", url: page + makeFragment({ identifier, key, isViewOnly: true }) },
    ...others,
  ];
}

/** Lists a room's links in `list`, a `ul`. */
export function showLinks(list, identifier, key) {
  list.replaceChildren(...linksOf(identifier, key).map(makeItem));
}

function makeItem({ id, label, note, url }) {
  const item = document.createElement("li");
  const title = document.createElement(url ? "label" : "strong");
  const explanation = document.createElement("p");
  title.textContent = label;
  explanation.className = "quiet";
  explanation.id = `${id}-note`;
  explanation.textContent = note;
  if (!url) {
    item.append(title, explanation);
    return item;
  }
  const field = document.createElement("input");
  Object.assign(field, { id, readOnly: true, value: url });
  field.setAttribute("aria-describedby", explanation.id);
  title.htmlFor = id;
  const row = document.createElement("div");
  row.className = "copy-row";
  row.append(field, makeCopyButton(label, field));
  item.append(title, row, explanation);
  return item;
}

function makeCopyButton(label, field) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy: ${label}`);
  button.addEventListener("click", async () => {
    button.textContent = (await copy(field)) ? "Copied" : "Press Ctrl+C";
    button.setAttribute("aria-label", `${button.textContent}: ${label}`);
    setTimeout(() => {
      button.textContent = "Copy";
      button.setAttribute("aria-label", `Copy: ${label}`);
    }, 2500);
  });
  return button;
}

/** Copies a field's text. Pages without HTTPS have no clipboard of the newer kind. */
async function copy(field) {
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch {
    return document.execCommand("copy");
  }
}
