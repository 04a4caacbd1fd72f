// What the room tells about others: who came and went, who records, what was said.

import { element } from "/assets/page.js";

const SHOWN_MS = 6000;
// More lines would hide who is seen. Screen readers have heard of the older ones when they give way.
const MAXIMUM_LINES = 4;
// A little more than three of the times that one who records says so (record-button.js).
const RECORDING_LASTS_MS = 35_000;

/** Says something for a moment, to screen readers too: in a line of its own, which takes the place of nothing else. */
export function announce(text) {
  const line = document.createElement("span");
  line.textContent = text;
  const lines = element("announcements");
  lines.append(line);
  if (lines.children.length > MAXIMUM_LINES) lines.firstElementChild.remove();
  setTimeout(() => line.remove(), SHOWN_MS);
}

/** Tells who came and who went between two lists of peers, by id. */
export function announceChanges(before, now, nameOf) {
  const came = [...now.keys()].filter((id) => !before.has(id)).map((id) => nameOf(now.get(id)));
  const went = [...before.keys()].filter((id) => !now.has(id)).map((id) => nameOf(before.get(id)));
  const sentences = [[came, "joined"], [went, "left"]].filter(([names]) => names.length > 0).map(([names, verb]) =>
    names.length > 3 ? `${names.length} people ${verb}.` : `${names.join(", ")} ${verb}.`);
  if (sentences.length > 0) announce(sentences.join(" "));
}

/** Who says that they record, and the notice that names them. */
export class Recorders {
  #others = new Map();
  #isOwn = false;

  constructor() {
    setInterval(() => this.#show(), 1000);
  }

  setOwn(isOwn) {
    this.#isOwn = isOwn;
    this.#show();
  }

  /** What a peer has said. */
  note(peer, name, isRecording) {
    if (isRecording) this.#others.set(peer, { name, until: performance.now() + RECORDING_LASTS_MS });
    else this.#others.delete(peer);
    this.#show();
  }

  clear() {
    this.#others.clear();
    this.setOwn(false);
  }

  #show() {
    for (const [peer, { until }] of this.#others) if (until < performance.now()) this.#others.delete(peer);
    const others = [...this.#others.values()].map(({ name }) => name);
    const who = [...(this.#isOwn ? ["You"] : []), ...others];
    const verb = who.length === 1 && !this.#isOwn ? "is" : "are";
    const text = who.length > 0 ? `${who.join(", ")} ${verb} recording.` : "";
    const notice = element("recording-notice");
    // A live region that is set anew is read anew.
    if (notice.textContent !== text) notice.textContent = text;
  }
}
