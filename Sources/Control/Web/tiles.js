// The tiles of a room: one for each stream, in a grid or around the speaker.

import { gridOf, speakerOf } from "/assets/layout.js";

/**
 * What a tile shows.
 * @typedef {object} TileContent
 * @property {string} id The stream's.
 * @property {string} name
 * @property {string=} peer
 * @property {MediaStream} media
 * @property {boolean} own
 * @property {string} kind Of a stream's, or `person` for somebody who sends nothing.
 * @property {boolean} live
 * @property {string[]} muted
 * @property {boolean=} undecryptable
 * @property {boolean} hasMenu Whether a host may act on it.
 */

export class Tiles {
  /** @type {"grid"|"speaker"} */ layout = "grid";
  /** @type {(id: string, height: number) => void} Told how high each tile is, in the screen's own pixels; 0 for one without a place. */
  sized = () => {};
  #container;
  #more;
  #tiles = new Map();
  #openMenu;
  #willArrange = false;
  #recorded = null;

  /**
   * @param {HTMLElement} container
   * @param {HTMLElement} more Says how many tiles have no place.
   * @param {(content: TileContent) => void} openMenu
   */
  constructor(container, more, openMenu) {
    this.#container = container;
    this.#more = more;
    this.#openMenu = openMenu;
    new ResizeObserver(() => this.#arrange()).observe(container);
  }

  /** @returns {TileContent[]} */
  get contents() {
    return [...this.#tiles.values()].map((tile) => tile.content);
  }

  video(id) {
    return this.#tiles.get(id)?.video;
  }

  /** Makes the stream's tile, or brings it up to date. @param {TileContent} content */
  show(content) {
    let tile = this.#tiles.get(content.id);
    if (!tile) {
      tile = makeTile(content, () => this.#openMenu(tile.content));
      this.#tiles.set(content.id, tile);
      this.#container.append(tile.root);
    }
    tile.content = content;
    fill(tile, content);
    this.arrange();
  }

  remove(id) {
    this.#tiles.get(id)?.root.remove();
    this.#tiles.delete(id);
    this.arrange();
  }

  clear() {
    for (const id of [...this.#tiles.keys()]) this.remove(id);
  }

  setLayout(layout) {
    this.layout = layout;
    this.arrange();
  }

  /** @param {Set<string>} ids Streams whose publishers speak. */
  setSpeaking(ids) {
    for (const [id, tile] of this.#tiles) {
      tile.root.dataset.speaking = String(ids.has(id));
      if (ids.has(id)) tile.spokeAt = performance.now();
    }
    if (this.layout === "speaker") this.arrange();
  }

  /** @param {"good"|"fair"|"poor"|undefined} level Unknown when it is none. */
  setQuality(id, level) {
    const bars = this.#tiles.get(id)?.bars;
    if (!bars || bars.dataset.level === level) return;
    bars.dataset.level = level;
    bars.hidden = !level;
    bars.setAttribute("aria-label", `Connection: ${level ?? "not known"}`);
  }

  /** @param {string} text Lines over the picture; none when empty. */
  setFigures(id, text) {
    const figures = this.#tiles.get(id)?.figures;
    if (!figures) return;
    figures.textContent = text;
    figures.hidden = !text;
  }

  /** Has pictures be large enough for a recording of this size too. @param {{width: number, height: number}|null} size */
  setRecorded(size) {
    this.#recorded = size;
    this.arrange();
  }

  /** Arranges the tiles once, however many of them change now. */
  arrange() {
    if (this.#willArrange) return;
    this.#willArrange = true;
    queueMicrotask(() => {
      this.#willArrange = false;
      this.#arrange();
    });
  }

  #arrange() {
    const { clientWidth: width, clientHeight: height } = this.#container;
    this.#container.dataset.layout = this.layout;
    const recorded = this.#recorded ? this.places(this.#recorded.width, this.#recorded.height) : new Map();
    let without = 0;
    for (const [id, place] of this.places(width, height)) {
      const { root } = this.#tiles.get(id);
      root.dataset.placed = String(place !== null);
      this.sized(id, Math.max((place?.height ?? 0) * devicePixelRatio, recorded.get(id)?.height ?? 0));
      if (place === null) {
        without += 1;
        continue;
      }
      for (const [name, value] of Object.entries(place)) root.style[name] = `${Math.floor(value)}px`;
    }
    this.#more.hidden = without === 0;
    this.#more.textContent = `${without} more in the grid`;
  }

  /**
   * Where each stream's tile goes in a picture of this size.
   *
   * @param {(content: TileContent) => boolean=} isWanted Leaves out the others.
   * @returns {Map<string, import("/assets/layout.js").Rectangle|null>}
   */
  places(width, height, isWanted = () => true) {
    const all = [...this.#tiles.values()].filter((tile) => isWanted(tile.content));
    if (this.layout === "grid") {
      const grid = gridOf(all.length, width, height);
      return new Map(all.map((tile, index) => [tile.content.id, grid[index]]));
    }
    const large = largeOf(all);
    let others = all.filter((tile) => tile !== large);
    const rectangles = speakerOf(all.length, width, height);
    // Where not all have a place, those who spoke last do.
    if (rectangles.includes(null)) others = others.toSorted((one, two) => two.spokeAt - one.spokeAt);
    return new Map([large, ...others].filter(Boolean).map((tile, index) => [tile.content.id, rectangles[index]]));
  }
}

/** Who is shown large: another's screen, who spoke last, or anybody else before oneself. */
function largeOf(tiles) {
  const others = tiles.filter((tile) => !tile.content.own);
  const screens = others.filter((tile) => tile.content.kind === "screen");
  if (screens.length > 0) return screens.at(-1);
  // Who sends nothing is there, but nothing to look at.
  const seen = others.filter((tile) => tile.content.kind !== "person");
  return (seen.length > 0 ? seen : others).toSorted((one, two) => two.spokeAt - one.spokeAt)[0] ?? tiles.at(-1);
}

function makeTile(content, openMenu) {
  const root = make("figure", "tile");
  const video = make("video");
  Object.assign(video, { autoplay: true, playsInline: true, muted: content.own });
  const initial = make("div", "initial");
  initial.setAttribute("aria-hidden", "true");
  const note = make("p", "tile-note");
  const figures = make("pre", "tile-figures");
  figures.hidden = true;
  const caption = make("figcaption");
  const silence = makeIcon("icon-silent");
  const name = make("span", "tile-name");
  const silent = make("span", "hidden-label");
  silent.textContent = "(muted)";
  const bars = make("span", "bars");
  bars.setAttribute("role", "img");
  bars.hidden = true;
  bars.append(make("i"), make("i"), make("i"));
  caption.append(silence, name, silent, bars);
  const menu = make("button", "tile-menu");
  menu.type = "button";
  menu.append(makeIcon("icon-more"));
  menu.addEventListener("click", openMenu);
  root.append(video, initial, note, figures, menu, caption);
  return { root, video, initial, note, figures, silence, name, silent, bars, menu, content, spokeAt: 0 };
}

function fill(tile, content) {
  const { id, own, kind, live, undecryptable = false, media, muted = [], name } = content;
  const isSilent = muted.includes("audio") && kind !== "screen";
  const hasPicture = !muted.includes("video") && media.getVideoTracks().length > 0;
  Object.assign(tile.root.dataset, { own, kind, live, stream: id, picture: hasPicture, undecryptable });
  if (tile.video.srcObject !== media) tile.video.srcObject = media;
  tile.video.setAttribute("aria-label", name);
  tile.initial.textContent = [...name][0]?.toUpperCase() ?? "";
  tile.name.textContent = name;
  tile.silent.hidden = !isSilent;
  tile.silence.toggleAttribute("hidden", !isSilent);
  tile.note.textContent = noteOf(live, undecryptable);
  tile.note.hidden = !tile.note.textContent;
  tile.menu.hidden = !content.hasMenu;
  tile.menu.setAttribute("aria-label", `Actions for ${name}`);
}

function noteOf(live, undecryptable) {
  if (undecryptable) return "Encrypted with another key: nothing can be shown.";
  return live ? "" : "Connecting again…";
}

function make(tag, className = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  return made;
}

function makeIcon(id) {
  const space = "http://www.w3.org/2000/svg";
  const icon = document.createElementNS(space, "svg");
  icon.setAttribute("aria-hidden", "true");
  icon.setAttribute("class", "icon");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#${id}`);
  icon.append(use);
  return icon;
}
