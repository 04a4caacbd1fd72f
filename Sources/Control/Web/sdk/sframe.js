// SFrame (RFC 9605) with the cipher suite AES_128_GCM_SHA256_128, and the keys of a room.

const CIPHER_SUITE = [0x00, 0x04];
const KEY_BYTES = 16;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const SECRET_BYTES = 32;
const SHORTEST_KEY = 16;
const KID_BYTES = 8;
// A sender takes another key long before AES-GCM's limits are near, or a counter could end.
const FRAMES_PER_KEY = 2 ** 31;
const LAST_STEP = 255;
const GENERATIONS_KEPT = 4;
const SENDERS_KEPT = 1024;
// A frame that comes later than so many others of its sender is refused as one that was seen.
const REPLAY_WINDOW = 1024;

const UNKNOWN_KEY = "There is no key with this id.";

const utf8 = new TextEncoder();

/** A key of one sender, as RFC 9605 §4.4.2 derives it. Encrypts or decrypts; whoever encrypts owns its counter. */
export class SFrameKey {
  #key;
  #salt;
  #kid;
  #counter = 0;
  #seen = new Set();
  #newest = -1;

  /**
   * @param {Uint8Array} baseKey
   * @param {Uint8Array} kid 8 bytes, big-endian.
   */
  static async derive(baseKey, kid) {
    const result = new SFrameKey();
    const label = (name) => joined([utf8.encode(name), kid, CIPHER_SUITE]);
    const [key, salt] = await Promise.all([
      expand(baseKey, label("SFrame 1.0 Secret key "), KEY_BYTES),
      expand(baseKey, label("SFrame 1.0 Secret salt "), NONCE_BYTES),
    ]);
    result.#key = await crypto.subtle.importKey("raw", key, "AES-GCM", false, ["encrypt", "decrypt"]);
    result.#salt = salt;
    result.#kid = kid;
    return result;
  }

  /** The id, 8 bytes, of which the first is the generation and the last the step. */
  get kid() {
    return this.#kid;
  }

  /** Whether another key has to follow. */
  get isUsedUp() {
    return this.#counter >= FRAMES_PER_KEY;
  }

  /**
   * @param {Uint8Array} plaintext
   * @param {Uint8Array=} metadata Authenticated, not sent.
   * @returns {Promise<Uint8Array>} Header, ciphertext and tag.
   */
  async seal(plaintext, metadata = new Uint8Array(0)) {
    // Before anything is waited for: no other frame gets the same.
    const counter = this.#counter++;
    const header = encodeHeader(this.#kid, counter);
    const sealed = await crypto.subtle.encrypt(
      { name: "AES-GCM", iv: this.#nonce(counter), additionalData: joined([header, metadata]) }, this.#key, plaintext,
    );
    return joined([header, new Uint8Array(sealed)]);
  }

  /**
   * @param {Uint8Array} sealed
   * @param {Uint8Array=} metadata As it was sealed with.
   * @throws When it was sealed with another key, was changed, or was opened before.
   */
  async open(sealed, metadata = new Uint8Array(0)) {
    const header = decodeHeader(sealed);
    if (!header) throw new Error("No SFrame header.");
    const { counter } = header;
    if (this.#wasSeen(counter)) throw new Error("A frame that was seen before.");
    const plaintext = await crypto.subtle.decrypt(
      { name: "AES-GCM", iv: this.#nonce(counter), additionalData: joined([header.bytes, metadata]) },
      this.#key, sealed.subarray(header.bytes.length),
    );
    if (this.#wasSeen(counter)) throw new Error("A frame that was seen before.");
    this.#note(counter);
    return new Uint8Array(plaintext);
  }

  #wasSeen(counter) {
    return counter <= this.#newest - REPLAY_WINDOW || this.#seen.has(counter);
  }

  #note(counter) {
    this.#seen.add(counter);
    this.#newest = Math.max(this.#newest, counter);
    if (this.#seen.size <= 2 * REPLAY_WINDOW) return;
    for (const old of this.#seen) if (old <= this.#newest - REPLAY_WINDOW) this.#seen.delete(old);
  }

  #nonce(counter) {
    const nonce = this.#salt.slice();
    for (const [index, byte] of bigEndian(counter, 8).entries()) nonce[NONCE_BYTES - 8 + index] ^= byte;
    return nonce;
  }
}

/** RFC 9605 §4.3. The key id, 8 bytes, and the counter are written with as few bytes as they need. */
function encodeHeader(kid, counter) {
  const [keyBits, keyBytes] = encodeField(withoutLeadingZeros(kid));
  const [counterBits, counterBytes] = encodeField(withoutLeadingZeros(bigEndian(counter, 8)));
  return joined([[(keyBits << 4) | counterBits], keyBytes, counterBytes]);
}

function encodeField(bytes) {
  if (bytes.length === 1 && bytes[0] < 8) return [bytes[0], []];
  return [0x08 | (bytes.length - 1), bytes];
}

/** @returns {{bytes: Uint8Array, kid: Uint8Array, counter: number} | null} Null for what is no SFrame header. */
function decodeHeader(sealed) {
  let at = 1;
  const field = (bits) => {
    if (!(bits & 0x08)) return Uint8Array.of(bits);
    const bytes = sealed.subarray(at, at + (bits & 0x07) + 1);
    at += (bits & 0x07) + 1;
    return bytes;
  };
  const kid = field((sealed[0] >> 4) & 0x0f);
  const counter = field(sealed[0] & 0x0f).reduce((value, byte) => value * 256 + byte, 0);
  if (sealed.length < at + TAG_BYTES || counter > Number.MAX_SAFE_INTEGER) return null;
  const padded = new Uint8Array(KID_BYTES);
  padded.set(kid, KID_BYTES - kid.length);
  return { bytes: sealed.subarray(0, at), kid: padded, counter };
}

function withoutLeadingZeros(bytes) {
  const first = bytes.findIndex((byte) => byte !== 0);
  return first < 0 ? bytes.subarray(bytes.length - 1) : bytes.subarray(first);
}

function bigEndian(value, length) {
  const bytes = new Uint8Array(length);
  for (let index = length - 1; index >= 0; index -= 1) {
    bytes[index] = value % 256;
    value = Math.floor(value / 256);
  }
  return bytes;
}

/** HKDF-Expand(HKDF-Extract("", secret), info) with SHA-256 (RFC 5869). */
async function expand(secret, info, length) {
  const key = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveBits"]);
  const algorithm = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(0), info };
  return new Uint8Array(await crypto.subtle.deriveBits(algorithm, key, length * 8));
}

/**
 * The keys of everybody in a room, from the secret that they share.
 *
 * A key id is 8 bytes: the generation of the secret, which the application counts; 6 random bytes of the sender, so that no two share
 * a key and none has the same one twice; and the ratchet's step (RFC 9605 §5.1 with R = 8). Each step's secret follows from the one
 * before and not the other way about: whoever is let in after a step can't read what was sent before it.
 */
class RoomKeys {
  /** Secrets by generation: of each step that is still known, or was made from one that is, a promise of its secret. */
  #secrets = new Map();
  #generation = -1;
  #step = 0;
  #sending = null;
  /** The keys of senders by their ids, those used last at the end. */
  #receiving = new Map();
  /** Those that have opened nothing yet. */
  #unproven = new Map();
  #own = new Set();
  #changes = Promise.resolve();

  /** Adds a secret, which is encrypted with from now on. Older ones can be decrypted with for a while. */
  add(generation, secret, step = 0) {
    return this.#inTurn(async () => {
      if (!(secret instanceof Uint8Array) || secret.length < SHORTEST_KEY) throw new Error(`A key has at least ${SHORTEST_KEY} bytes.`);
      let steps = this.#secrets.get(generation);
      // The secret that there is, given once more: what was seen of it stays seen.
      if (!steps || !(await this.#leadsTo(steps, secret, step))) {
        this.#forget(generation);
        steps = new Map();
      }
      if (!steps.has(step)) steps.set(step, Promise.resolve(secret));
      this.#secrets.delete(generation);
      this.#secrets.set(generation, steps);
      for (const old of this.#secrets.keys()) if (this.#secrets.size > GENERATIONS_KEPT) this.#forget(old);
      this.#sendWith(generation, step);
    });
  }

  /** Whether a secret is the one of its step, or one that a known step follows from. */
  async #leadsTo(steps, secret, step) {
    const next = Math.min(...[...steps.keys()].filter((known) => known >= step));
    // All that is known comes before: then it follows from that, or is another.
    if (!Number.isFinite(next)) return isSame(await this.#stepOf(steps, step), secret);
    let reached = secret;
    for (let at = step; at < next; at += 1) reached = await ratcheted(reached);
    return isSame(await steps.get(next), reached);
  }

  /**
   * Takes the next step. Others follow when they see it.
   *
   * @returns {Promise<{key: Uint8Array, generation: number, step: number}>} What is encrypted with from now on.
   */
  ratchet() {
    return this.#inTurn(async () => {
      if (this.#step >= LAST_STEP) throw new Error(`The key was ratcheted ${LAST_STEP} times: it takes a new one.`);
      return this.#advance(this.#step + 1);
    });
  }

  /** Somebody of the generation that we encrypt with has taken a step. */
  #follow(generation, step) {
    return this.#inTurn(async () => {
      if (generation === this.#generation && step > this.#step) await this.#advance(step);
    });
  }

  /** One change waits for the one before: a step that was begun with a key must not undo that there is another one. */
  #inTurn(change) {
    const changed = this.#changes.then(change);
    this.#changes = changed.catch(() => {});
    return changed;
  }

  async #advance(step) {
    const generation = this.#generation;
    const key = await this.#secret(generation, step);
    this.#sendWith(generation, step);
    // What was sent a step ago may still be on its way; what is older is forgotten.
    this.#forget(generation, step - 1);
    return { key, generation, step };
  }

  /** Forgets a generation, or its steps before one. */
  #forget(generation, before = LAST_STEP + 1) {
    for (const keys of [this.#receiving, this.#unproven]) {
      for (const name of keys.keys()) {
        const kid = name.split(",").map(Number);
        if (kid[0] === generation && kid[KID_BYTES - 1] < before) keys.delete(name);
      }
    }
    if (before > LAST_STEP) this.#secrets.delete(generation);
    else for (const step of this.#secrets.get(generation).keys()) if (step < before) this.#secrets.get(generation).delete(step);
  }

  #sendWith(generation, step) {
    this.#generation = generation;
    this.#step = step;
    this.#sending = null;
  }

  async seal(plaintext) {
    if (this.#generation < 0) throw new Error("There is no key yet.");
    const sending = (this.#sending ??= this.#makeSending());
    let key = null;
    try {
      key = await sending;
      return await key.seal(plaintext);
    } finally {
      // One that could not be derived is no more of use than one that is used up.
      if ((!key || key.isUsedUp) && this.#sending === sending) this.#sending = null;
    }
  }

  #makeSending() {
    const sender = crypto.getRandomValues(new Uint8Array(6));
    const kid = Uint8Array.of(this.#generation, ...sender, this.#step);
    this.#own.add(kid.join());
    return this.#derive(kid);
  }

  async open(sealed) {
    const header = decodeHeader(sealed);
    if (!header) throw new Error("No SFrame header.");
    const name = header.kid.join();
    // Only a server that wants us to take our own words for another's sends them back.
    if (this.#own.has(name)) throw new Error("A frame of our own.");
    const [generation, step] = [header.kid[0], header.kid[KID_BYTES - 1]];
    const known = this.#borrow(name, header.kid);
    try {
      const plaintext = await (await known.key).open(sealed);
      this.#keep(name, known);
      if (generation === this.#generation && step > this.#step) await this.#follow(generation, step);
      return plaintext;
    } finally {
      known.users -= 1;
      // Whoever sends us made-up key ids gets memory for them no longer than their frames are looked at.
      if (known.users === 0 && this.#unproven.get(name) === known) this.#unproven.delete(name);
    }
  }

  /**
   * The one key of an id, and with it the one memory of which of its frames were seen: frames that come together share it from the first
   * on, while it is still being derived.
   *
   * @returns {{key: Promise<SFrameKey>, users: number}}
   */
  #borrow(name, kid) {
    let known = this.#receiving.get(name) ?? this.#unproven.get(name);
    if (!known) {
      known = { key: this.#derive(kid), users: 0 };
      this.#unproven.set(name, known);
    }
    known.users += 1;
    return known;
  }

  /** Remembers a key that has opened something: unless its secret was forgotten or exchanged meanwhile. */
  #keep(name, known) {
    if (this.#receiving.get(name) !== known && this.#unproven.get(name) !== known) return;
    this.#unproven.delete(name);
    this.#receiving.delete(name);
    this.#receiving.set(name, known);
    // Those whose frames came longest ago make room: with a key goes the memory of which of its frames were seen.
    for (const [old, { users }] of this.#receiving) {
      if (this.#receiving.size <= SENDERS_KEPT) return;
      if (users === 0) this.#receiving.delete(old);
    }
  }

  async #derive(kid) {
    const secret = await this.#secret(kid[0], kid[KID_BYTES - 1]);
    // RFC 9605 §4.4.1: a base key has one sender.
    const baseKey = await expand(secret, joined([utf8.encode("Sluice 1.0 Sender "), kid.subarray(1, KID_BYTES - 1)]), SECRET_BYTES);
    return SFrameKey.derive(baseKey, kid);
  }

  #secret(generation, step) {
    const steps = this.#secrets.get(generation);
    if (!steps) throw new Error(UNKNOWN_KEY);
    return this.#stepOf(steps, step);
  }

  /**
   * A step's secret (RFC 9605 §5.1), which is made from the nearest that comes before. Those between are kept: whatever steps frames
   * claim to be of, a secret is ratcheted at most LAST_STEP times. What could not be made is tried again.
   */
  #stepOf(steps, step) {
    const nearest = Math.max(...[...steps.keys()].filter((known) => known <= step));
    if (!Number.isFinite(nearest)) throw new Error(UNKNOWN_KEY);
    for (let next = nearest + 1; next <= step; next += 1) {
      const made = steps.get(next - 1).then(ratcheted);
      steps.set(next, made);
      made.catch(() => steps.get(next) === made && steps.delete(next));
    }
    return steps.get(step);
  }
}

function ratcheted(secret) {
  return expand(secret, utf8.encode("SFrame 1.0 Ratchet"), SECRET_BYTES);
}

function isSame(one, other) {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}
