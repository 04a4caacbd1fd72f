// Measures the room's streams, and shows it: a level on each tile, figures in the overlay.

import { linesOf, summaryOf } from "/assets/overlay.js";
import { element } from "/assets/page.js";
import { levelOf, Measurements, worse } from "/assets/quality.js";

const MEASURE_MS = 2000;

export class Meters {
  #tiles;
  #getRoom;
  #measurements = new Measurements();
  /** What we and what the server think of each stream. */ #levels = new Map();

  /**
   * @param {import("/assets/tiles.js").Tiles} tiles
   * @param {() => import("/sdk/sluice.js").Room|null} getRoom
   */
  constructor(tiles, getRoom) {
    this.#tiles = tiles;
    this.#getRoom = getRoom;
    setInterval(() => this.#measure(), MEASURE_MS);
  }

  get #isShown() {
    return element("figures").getAttribute("aria-pressed") === "true";
  }

  /** Shows the overlay, or hides it. */
  toggle() {
    const isShown = !this.#isShown;
    element("figures").setAttribute("aria-pressed", String(isShown));
    element("statistics").hidden = !isShown;
    element("statistics").textContent = "Measuring…";
    if (!isShown) for (const { id } of this.#tiles.contents) this.#tiles.setFigures(id, "");
  }

  /** What the server says of how streams arrive. @param {{stream: string, level: string}[]} streams */
  hear(streams) {
    for (const { stream, level } of streams) this.#note(stream, { told: level });
  }

  forget(id) {
    this.#levels.delete(id);
  }

  clear() {
    this.#levels.clear();
    if (this.#isShown) this.toggle();
  }

  async #measure() {
    const room = this.#getRoom();
    if (room?.state !== "joined") {
      this.#measurements = new Measurements();
      return;
    }
    const measured = await this.#measurements.of(room);
    const encryption = await room.encryptionStatistics().catch(() => null);
    if (room !== this.#getRoom()) return;
    for (const content of this.#tiles.contents) {
      const figures = measured.get(content.id);
      this.#note(content.id, { own: figures && expectsMedia(content) ? levelOf(figures) : undefined });
      this.#tiles.setFigures(content.id, this.#isShown && figures ? linesOf(figures) : "");
    }
    const ownIDs = new Set(room.published.map((stream) => stream.id));
    if (this.#isShown) element("statistics").textContent = summaryOf(measured, ownIDs, encryption);
  }

  #note(id, change) {
    const levels = { ...this.#levels.get(id), ...change };
    this.#levels.set(id, levels);
    this.#tiles.setQuality(id, worse(levels.own, levels.told));
  }
}

/** Whether silence means trouble: nothing may come of who is away or has muted everything. */
function expectsMedia({ live, muted, media }) {
  return live && media.getTracks().some((track) => !muted?.includes(track.kind));
}
