// End-to-end encryption: every encoded frame is sealed before it is packetised, in a worker that loads this same module.

const SERVED_PATH = "/sdk/sluice.js";
const KDF_ITERATIONS = 600_000;
const UNSUPPORTED = "This browser can't encrypt media end to end: nothing was sent.";

/**
 * What encrypts and decrypts for a room or a WHIP or WHEP session. Docs/Encryption.md describes the format.
 *
 * Events: `readable` ({track, readable}): whether what a received track carries can be decrypted, at first, when that changes, and again
 * and again while it can't. `unsealed` ({message}): frames that are to be sent can't be encrypted, and go nowhere.
 */
export class Encryption extends EventTarget {
  #worker;
  #room;
  #nextID = 1;
  #waiting = new Map();
  #tracks = new Map();
  /** The transforms of senders and receivers; true where there are encoded streams in their place. */ #attached = new WeakMap();
  #changes = Promise.resolve();
  #end = null;

  /** Whether this browser can encrypt encoded frames at all. */
  static get isSupported() {
    return Boolean(crypto.subtle) && (hasScriptTransform() || "createEncodedStreams" in RTCRtpSender.prototype);
  }

  /** For RTCPeerConnection: some browsers hand out encoded frames only when they are asked so at once. */
  static get configuration() {
    return hasScriptTransform() ? {} : { encodedInsertableStreams: true };
  }

  /** The codecs of a kind that can be encrypted, with what repairs them: for setCodecPreferences. */
  static codecs(kind) {
    const isRepair = (type) => ["video/rtx", "video/flexfec-03"].includes(type.toLowerCase());
    return RTCRtpReceiver.getCapabilities(kind).codecs.filter(({ mimeType }) => dressing(mimeType) || isRepair(mimeType));
  }

  /**
   * @param {object} options
   * @param {string} options.room The room's id, which salts a passphrase.
   * @param {string=} options.passphrase What everybody was told, by other means than the server.
   * @param {(ArrayBuffer|ArrayBufferView)=} options.key In its place a key of the application, at least 16 random bytes.
   * @param {number=} options.generation 0 to 255, where the application changes keys; 0 at first.
   * @param {number=} options.step 0 to 255: how many times `key` was ratcheted before it was handed over.
   * @throws {SluiceError} `unsupported` or `bad-request`.
   */
  static async create(options) {
    if (!Encryption.isSupported) {
      const message = crypto.subtle ? UNSUPPORTED : "End-to-end encryption needs a page that came by https.";
      throw new SluiceError({ code: "unsupported", message });
    }
    const encryption = new Encryption(options.room);
    try {
      await encryption.setKey(options);
    } catch (error) {
      encryption.close();
      throw error;
    }
    return encryption;
  }

  constructor(room) {
    super();
    this.#room = room;
    this.#worker = makeWorker();
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = () => this.#fail("The encryption's worker could not be loaded.");
  }

  /** Changes the key, for us: frames that others sent with older generations can be read for a while. */
  async setKey({ passphrase, key, generation = 0, step = 0 }) {
    for (const [name, value] of [["generation", generation], ["step", step]]) {
      if (!Number.isInteger(value) || value < 0 || value > 255) throw badRequest(`${name} has to be 0 to 255.`);
    }
    const isPassphrase = typeof passphrase === "string" && passphrase !== "";
    if (key == null && !isPassphrase) throw badRequest("A passphrase or a key is needed.");
    if (key != null && passphrase != null) throw badRequest("A passphrase or a key is needed, not both.");
    // It salts the passphrase: without it nobody else would come to the same key.
    if (isPassphrase && (typeof this.#room !== "string" || !this.#room)) throw badRequest("The room's id is needed.");
    const bytes = key == null ? null : bytesOf(key);
    // A passphrase takes its time: the change that was asked for last is the one that holds.
    await this.#inTurn(async () => {
      const secret = bytes ?? await stretch(passphrase, this.#room);
      await this.#request({ type: "key", generation, secret, step });
    });
  }

  /**
   * Goes on to the next key, which follows from this one: who is given this next one can't read what was before. Others follow by
   * themselves. It does nothing against those who know a passphrase, from which all steps follow.
   *
   * @returns {Promise<{key: Uint8Array, generation: number, step: number}>} For who comes from now on, as `setKey` and `join` take it.
   */
  async ratchet() {
    const { key, generation, step } = await this.#inTurn(() => this.#request({ type: "ratchet" }));
    return { key, generation, step };
  }

  #inTurn(change) {
    const changed = this.#changes.then(change);
    this.#changes = changed.catch(() => {});
    return changed;
  }

  /**
   * Seals what a sender sends; once more does nothing. To be called as soon as there is the sender, as some browsers look for a transform
   * only then, and before it gets a track: `addSender` does it in this order.
   *
   * @throws Where it can't be: then the connection is to be closed, as the sender would be in its next offer.
   */
  protect(sender) {
    this.#attach(sender, "send");
  }

  /** Opens what a receiver receives; once more does nothing, as an m-line that is used again tells of its receiver again. */
  reveal(receiver) {
    if (this.#attached.has(receiver)) return;
    for (const [old, track] of this.#tracks) if (track.readyState === "ended") this.#tracks.delete(old);
    const label = this.#nextID++;
    this.#attach(receiver, "receive", label);
    this.#tracks.set(label, receiver.track);
  }

  /**
   * To be called before anything is offered.
   *
   * @param {RTCPeerConnection} connection
   * @throws {SluiceError} `unencryptable`, where it has a sender that would send in the clear.
   */
  requireSealed(connection) {
    for (const { sender, direction } of connection.getTransceivers()) {
      const isSending = Boolean(sender.track) || ["sendonly", "sendrecv"].includes(direction);
      if (isSending && !this.#isAttached(sender)) {
        throw new SluiceError({ code: "unencryptable", message: "Something would be sent without encryption: nothing is sent." });
      }
    }
  }

  #isAttached(end) {
    const transform = this.#attached.get(end);
    return hasScriptTransform() ? transform !== undefined && end.transform === transform : transform === true;
  }

  /** @returns {Promise<Uint8Array>} */
  async seal(bytes) {
    return (await this.#request({ type: "seal", bytes })).bytes;
  }

  /** @returns {Promise<Uint8Array>} */
  async open(bytes) {
    return (await this.#request({ type: "open", bytes })).bytes;
  }

  /**
   * What was done so far: frames, the milliseconds that they took in all from their coming to their going on, and those that could
   * not be opened or sealed, and went nowhere.
   *
   * @returns {Promise<{sent: {frames: number, milliseconds: number, failed: number}, received: object}>}
   */
  async statistics() {
    return (await this.#request({ type: "statistics" })).statistics;
  }

  close() {
    this.#worker.terminate();
    this.#fail("The encryption has ended.");
  }

  #attach(end, direction, label) {
    if (this.#attached.has(end)) return;
    if (this.#end) throw this.#end;
    const options = { direction, label };
    if (hasScriptTransform()) {
      const transform = new RTCRtpScriptTransform(this.#worker, options);
      end.transform = transform;
      this.#attached.set(end, transform);
      return;
    }
    const { readable, writable } = end.createEncodedStreams();
    this.#worker.postMessage({ type: "streams", options, readable, writable }, [readable, writable]);
    this.#attached.set(end, true);
  }

  #request(message) {
    const id = this.#nextID++;
    return new Promise((resolve, reject) => {
      if (this.#end) throw this.#end;
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ ...message, id });
    });
  }

  #receive(message) {
    if (message.type === "readable") {
      const track = this.#tracks.get(message.label);
      this.dispatchEvent(new CustomEvent("readable", { detail: { track, readable: message.readable } }));
      return;
    }
    if (message.type === "unsealed") {
      this.dispatchEvent(new CustomEvent("unsealed", { detail: { message: message.message } }));
      return;
    }
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.error) waiting?.reject(badRequest(message.error));
    else waiting?.resolve(message);
  }

  #fail(message) {
    this.#end ??= new SluiceError({ code: "closed", message });
    for (const { reject } of this.#waiting.values()) reject(this.#end);
    this.#waiting.clear();
  }
}

function badRequest(message) {
  return new SluiceError({ code: "bad-request", message });
}

/** A copy, as the application may go on to use or wipe its own. */
function bytesOf(key) {
  const isView = ArrayBuffer.isView(key);
  if (!isView && !(key instanceof ArrayBuffer)) throw badRequest("A key is an ArrayBuffer or a view of one.");
  const bytes = (isView ? new Uint8Array(key.buffer, key.byteOffset, key.byteLength) : new Uint8Array(key)).slice();
  if (bytes.length < SHORTEST_KEY) throw badRequest(`A key has at least ${SHORTEST_KEY} bytes.`);
  return bytes;
}

function hasScriptTransform() {
  return "RTCRtpScriptTransform" in globalThis;
}

/**
 * The worker's own code, and never the file that this happens to be in: that may be a whole application, into which a bundler has put the
 * SDK. Where it is the SDK's file as Sluice serves it, that is taken, so that pages may forbid workers from elsewhere.
 */
function makeWorker() {
  const options = { type: "module", name: WORKER_NAME };
  if (isServedFile()) return new Worker(import.meta.url, options);
  const url = URL.createObjectURL(new Blob([WORKER_SOURCE], { type: "text/javascript" }));
  const worker = new Worker(url, options);
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  return worker;
}

function isServedFile() {
  // A bundler may have put anything in its place.
  const address = String(import.meta.url);
  return address === location.origin + SERVED_PATH;
}

/** A passphrase is guessed one try after another: each is made slow, and a table made for another room is worth nothing. */
async function stretch(passphrase, room) {
  const material = await crypto.subtle.importKey("raw", utf8.encode(passphrase.normalize("NFC")), "PBKDF2", false, ["deriveBits"]);
  const salt = utf8.encode(`Sluice 1.0 Passphrase ${room}`);
  const algorithm = { name: "PBKDF2", hash: "SHA-256", salt, iterations: KDF_ITERATIONS };
  return new Uint8Array(await crypto.subtle.deriveBits(algorithm, material, SECRET_BYTES * 8));
}
