// What was asked of others' streams: which are wanted, which are held back, how large each is shown. It holds for a stream's id as long as
// we are in the room: a server that was restarted, or a stream that comes again, is told of it anew.

// Of streams that are gone, no more is remembered than that.
const WISHES_KEPT = 2000;

class Wishes {
  /** By stream: {kinds, isRefused, paused, height, isKept}. */
  #wishes = new Map();

  /** @param {string[]|null} kinds What is wanted of a stream; null for all of it. */
  want(id, kinds) {
    Object.assign(this.#of(id), { kinds, isWanted: true, isRefused: false });
  }

  refuse(id) {
    Object.assign(this.#of(id), { isWanted: false, isRefused: true, paused: new Set() });
  }

  /** @param {string[]} kinds */
  pause(id, paused, kinds) {
    const wish = this.#of(id);
    for (const kind of kinds) {
      if (paused) wish.paused.add(kind);
      else wish.paused.delete(kind);
    }
  }

  /** @param {number} height */
  size(id, height) {
    this.#of(id).height = height;
  }

  /** @returns {number|undefined} */
  heightOf(id) {
    return this.#wishes.get(id)?.height;
  }

  /** Whether something of a stream should come. */
  expects(stream) {
    const wish = this.#wishes.get(stream.id);
    if (!wish) return true;
    return !wish.isRefused && stream.tracks.some(({ kind }) => !wish.paused.has(kind));
  }

  /** What is to be told of a stream anew, after the server has forgotten it. */
  isDue(id) {
    const wish = this.#wishes.get(id);
    return Boolean(wish && !wish.isKept && (wish.isWanted || wish.isRefused || wish.paused.size > 0));
  }

  /** The server knows nothing any more of a stream, or of all. */
  forgotten(id) {
    for (const [other, wish] of this.#wishes) if (id === undefined || id === other) wish.isKept = false;
  }

  /**
   * The messages that tell it, in their order.
   *
   * @param {(kinds: string[]) => number[]} places Of tracks in the stream.
   */
  messages(id, places) {
    const wish = this.#wishes.get(id);
    wish.isKept = true;
    if (wish.isRefused) return [{ type: "unsubscribe", stream: id }];
    const messages = [];
    if (wish.isWanted) messages.push({ type: "subscribe", stream: id, ...(wish.kinds ? { tracks: places(wish.kinds) } : {}) });
    const paused = places([...wish.paused]);
    if (paused.length > 0) messages.push({ type: "update", stream: id, paused: true, tracks: paused });
    return messages;
  }

  #of(id) {
    const wish = this.#wishes.get(id) ?? { kinds: null, isWanted: false, isRefused: false, paused: new Set(), height: undefined, isKept: true };
    // Those that something was asked of last stand at the end.
    this.#wishes.delete(id);
    this.#wishes.set(id, wish);
    for (const old of this.#wishes.keys()) if (this.#wishes.size > WISHES_KEPT) this.#wishes.delete(old);
    return wish;
  }
}
