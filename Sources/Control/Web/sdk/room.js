// Rooms on a Sluice server. Docs/Protocol.md describes what goes over the wire.

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 4000;
const PING_MS = 5000;
// An attempt that the network swallows is given up, and made again.
const CONNECT_MS = 4000;
// A socket that does not answer for so long when media has stopped leads nowhere any more.
const PONG_MS = 500;
const REPLY_MS = 15000;
// How large pictures are shown is told together, as it changes together; so many in a message.
const SIZES_MS = 300;
const SIZES_IN_MESSAGE = 64;
// A client may send 20 messages a second for long: what is told anew to a server that was restarted leaves room for others.
const REPEAT_MS = 80;
// What is sealed with a message, so that the server can't pass it on as something else: its purpose, and whom it is to if not to one.
const MESSAGE = "message";
const ALL = "all";

/** What the server refused, with its stable `code` (Docs/Protocol.md). */
export class SluiceError extends Error {
  /** @param {{code: string, message: string}} problem */
  constructor(problem) {
    super(problem.message);
    this.code = problem.code;
    this.problem = problem;
  }

  /** Whether trying again later can help. */
  get isTemporary() {
    return ["unavailable", "rate-limited", "timeout", "closed"].includes(this.code);
  }
}

/**
 * A stream of somebody in the room.
 * @typedef {object} RemoteStream
 * @property {string} id
 * @property {string=} peer Who publishes it; none when it came by WHIP.
 * @property {string=} kind What it shows, such as `camera` or `screen`.
 * @property {number=} height The lines of its picture, in the best of its encodings, as its publisher says.
 * @property {boolean} live Whether its publisher is connected.
 * @property {string[]} muted Kinds of media that its publisher has muted.
 * @property {MediaStream} media What is received of it; its tracks come and go.
 * @property {boolean} undecryptable Whether its frames are encrypted with another key than ours: nothing is shown of it then.
 */

/**
 * Joins a room.
 *
 * @param {object} options
 * @param {string} options.room The room's id: a secret, 1 to 128 of `[A-Za-z0-9_-]`.
 * @param {string=} options.url The server, such as `https://example.org`; by default the page's own.
 * @param {string=} options.name What others are told.
 * @param {(string|function(): (string|Promise<string>))=} options.token Where the server wants one. A function is asked each time that the
 *   server is joined: after a restart of the server a token that has expired ends the stay.
 * @param {"publish"|"view"=} options.role Viewers are counted, not announced.
 * @param {"all"|"none"=} options.policy Whether every stream is received, or what `subscribe` asks for.
 * @param {"transport"|"e2ee"=} options.privacy Refuses a room of another mode. `e2ee` wherever `encryption` is given.
 * @param {{passphrase: string}|{key: Uint8Array, generation?: number, step?: number}=} options.encryption What an `e2ee` room needs:
 *   see Encryption.create.
 * @param {string=} options.resume The `resumption` of an earlier stay in this room, of a page that was loaded again: its rights, and the way
 *   into a room that was locked meanwhile.
 * @returns {Promise<Room>} Once the server has let us in.
 * @throws {SluiceError}
 */
export async function join(options) {
  checkOptions(options);
  const room = new Room(options);
  await room.open();
  return room;
}

/**
 * A room that we are in. It reconnects by itself.
 *
 * Events (CustomEvent, with `detail`): `state` ({state, error}), `peers`, `stream-added` (RemoteStream: also those that were there before,
 * as soon as somebody listens), `stream-updated`, `stream-removed`, `speakers` ([{stream, level}]), `quality` ([{stream, level}]), `message` ({from, data}), `muted-by-host` ({by, stream, muted}: a host
 * asks for these kinds of media of a stream, or of all, to be muted),
 * `room-updated`, `connection` ({connection, state}: that of an RTCPeerConnection has changed), `error` (a SluiceError or what the browser
 * throws: something that was not asked for failed), `left` ({reason, error}).
 *
 * States: connecting, joined, reconnecting, left.
 */
export class Room extends EventTarget {
  /** @type {string} */ state = "connecting";
  /** Our own id. */ peer = null;
  /** @type {Map<string, {peer: string, name: string}>} Others who may publish. */ peers = new Map();
  /** Those who only watch. */ viewerCount = 0;
  /** @type {Map<string, RemoteStream>} */ streams = new Map();
  /** @type {{mode: string, endToEndEncrypted: boolean, serverCanAccessMedia: boolean, notice: string}} */ privacy = null;
  /** @type {string[]} view, publish, host. */ rights = [];
  /** Whether a host lets nobody else in. */ locked = false;

  #options;
  #url;
  #socket = null;
  #resume = null;
  #attempt = 0;
  #timer = null;
  #pinger = null;
  #heardAt = 0;
  /** @type {Map<RTCPeerConnection, PathWatch>} */ #paths = new Map();
  #nextID = 1;
  #waiting = new Map();
  #iceServers = [];
  /** Whether the server has let us in on this socket, into a room as it was asked for: before that nothing else is said or heard. */
  #isIn = false;
  #sending = new Sending({
    isJoined: () => this.state === "joined",
    checkPrivacy: () => this.#checkPrivacy(this.privacy.mode),
    encryption: () => this.#encryption,
    makeConnection: () => this.#makeConnection(),
    watch: (connection) => this.#watch(connection, () => this.published.length > 0, () => this.#sending.republish()),
    isBroken: (connection) => this.#isBroken(connection),
    close: (connection) => this.#close(connection),
    request: (message) => this.request(message),
    tell: (error) => this.#emit("error", error),
  });
  #receiver = null;
  #wishes = new Wishes();
  #repeating = Promise.resolve();
  /** Streams that nobody was told of, as nobody has listened. */ #unannounced = new Set();
  #isHeard = false;
  #ending = new AbortController();
  #encryption = null;
  #unreadable = new WeakSet();
  #offers = Promise.resolve();
  #toldEncodings = new Map();
  /** Whether the application has asked for what it comes back by. */ #isKept = false;
  #sizing = null;
  #renewing = null;
  #renewals = 0;

  constructor(options) {
    super();
    this.#options = options;
    this.#resume = options.resume ?? null;
    const url = new URL("/v1/ws", options.url ?? location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.#url = url.href;
    const { signal } = this.#ending;
    globalThis.addEventListener?.("online", () => this.#probe(), { signal });
    // It may be loaded again, and then come back as what it was: the room is only held for who can.
    globalThis.addEventListener?.("pagehide", () => this.#leave(this.#isKept ? { action: "return" } : {}), { signal });
  }

  /** @type {string} A secret by which a page that is loaded again comes back as what it was: see `join`. */
  get resumption() {
    this.#isKept = true;
    return this.#resume;
  }

  /** @type {LocalStream[]} What we publish. */
  get published() {
    return this.#sending.published;
  }

  /** The connections: `send` and `receive`, each an RTCPeerConnection or null. */
  get connections() {
    return { send: this.#sending.connection, receive: this.#receiver };
  }

  /** As EventTarget has it. Whoever listens for `stream-added` is told of the streams that were there before, in a moment. */
  addEventListener(type, ...given) {
    super.addEventListener(type, ...given);
    if (type !== "stream-added" || this.#isHeard) return;
    this.#isHeard = true;
    queueMicrotask(() => this.#announce());
  }

  #announce() {
    for (const stream of this.#unannounced) {
      this.#unannounced.delete(stream);
      this.#emit("stream-added", stream);
    }
  }

  /**
   * What the browser counts of each connection, and what encryption took (Encryption.statistics); null for what there is not.
   *
   * @returns {Promise<{send: RTCStatsReport?, receive: RTCStatsReport?, encryption: object?}>}
   */
  async statistics() {
    const { send, receive } = this.connections;
    return {
      send: (await send?.getStats()) ?? null,
      receive: (await receive?.getStats()) ?? null,
      encryption: await this.encryptionStatistics(),
    };
  }

  async open() {
    const { encryption, ...options } = this.#options;
    try {
      if (encryption) {
        // The page keeps no secret that only the worker needs.
        this.#options = options;
        this.#encryption = await Encryption.create({ ...encryption, room: options.room });
        this.#encryption.addEventListener("readable", ({ detail }) => this.#noteReadable(detail));
        this.#encryption.addEventListener("unsealed", ({ detail }) => {
          const message = `What is sent can't be encrypted, and goes nowhere: ${detail.message}`;
          this.#emit("error", new SluiceError({ code: "unencryptable", message }));
        });
      }
      await this.#connect();
    } catch (error) {
      this.#say({ type: "leave" });
      this.#end();
      throw error;
    }
  }

  // Publishing

  /**
   * Publishes the tracks of a MediaStream.
   *
   * @param {MediaStream} media At most one track of each kind.
   * @param {{kind?: string, id?: string, codec?: string, simulcast?: boolean, music?: boolean}=} options `kind` is told to others (`camera`, `screen`);
   *   `codec`, such as `VP9`, is taken where both sides can; `simulcast` is whether the video is sent as several encodings, of which each
   *   viewer gets one that suits them: so by default for a camera. `music` is whether its sound is sent in stereo, and with more bits
   *   than speech needs: the device is to be opened without echo cancellation, noise suppression and automatic gain (MUSIC).
   * @returns {Promise<LocalStream>} Once the server has it: where the socket is gone, on the next one.
   * @throws {SluiceError} `bad-request` for what could be sent in part only: no track, one that has ended, two of a kind.
   */
  async publish(media, options = {}) {
    if (this.state === "left") throw this.#leftError();
    const stream = new LocalStream(this, media, options);
    await this.#sending.publish(stream);
    return stream;
  }

  /**
   * Asks for a screen or window, and publishes it until it is stopped, here or in the browser's own bar.
   *
   * @param {DisplayMediaStreamOptions=} options
   * @returns {Promise<LocalStream>}
   */
  async shareScreen(options = { video: true, audio: true }) {
    const media = await navigator.mediaDevices.getDisplayMedia(options);
    const close = () => media.getTracks().forEach((track) => track.stop());
    // Nobody shares a screen longer than the room knows of it.
    this.#ending.signal.addEventListener("abort", close);
    let stream;
    try {
      stream = await this.publish(media, { kind: "screen" });
    } catch (error) {
      close();
      throw error;
    }
    const stop = () => stream.stop().catch(() => {});
    for (const track of media.getVideoTracks()) {
      track.addEventListener("ended", stop);
      if (track.readyState === "ended") stop();
    }
    return stream;
  }

  /** @param {LocalStream} stream */
  async unpublish(stream) {
    await this.#sending.unpublish(stream);
  }

  /** A stream of ours has got another kind of track. @param {LocalStream} stream */
  async update(stream) {
    if (this.published.includes(stream)) await this.#sending.update();
  }

  // Receiving

  /**
   * Asks for a stream. What is asked of a stream holds for its id until the room is left.
   *
   * @param {string} stream
   * @param {("audio"|"video")[]=} kinds What is wanted of it; all of it by default.
   */
  async subscribe(stream, kinds) {
    const reply = await this.request({ type: "subscribe", stream, tracks: kinds && this.#places(stream, kinds) });
    this.#wishes.want(stream, kinds ?? null);
    return reply;
  }

  /** @param {string} stream */
  async unsubscribe(stream) {
    const reply = await this.request({ type: "unsubscribe", stream });
    this.#wishes.refuse(stream);
    return reply;
  }

  /**
   * Holds a stream back, or lets it go on.
   *
   * @param {string} stream
   * @param {boolean} paused
   * @param {("audio"|"video")[]=} kinds Of which of its tracks; all by default.
   */
  async pause(stream, paused, kinds) {
    if (typeof paused !== "boolean") throw badRequest("paused is true or false.");
    await this.request({ type: "update", stream, paused, tracks: kinds && this.#places(stream, kinds) });
    this.#wishes.pause(stream, paused, kinds ?? KINDS);
  }

  /** The places of tracks of these kinds in their stream. */
  #places(stream, kinds) {
    if (!Array.isArray(kinds)) throw badRequest("The kinds of media are a list.");
    kinds.forEach(checkKind);
    const places = placesOf(this.streams.get(stream), kinds);
    if (places.length > 0) return places;
    throw new SluiceError({ code: "not-found", message: "There is no such stream, or it has no track of this kind." });
  }

  /** What was asked of a stream is asked again of a server that knows nothing of it. */
  async #repeatWishes(stream) {
    if (!stream.live || !this.#wishes.isDue(stream.id)) return;
    for (const message of this.#wishes.messages(stream.id, (kinds) => placesOf(stream, kinds))) {
      try {
        await this.#paced(message);
      } catch (error) {
        this.#wishes.forgotten(stream.id);
        // On the next socket, or with the stream, they are told again.
        if (!["closed", "left", "not-found"].includes(error.code)) this.#emit("error", error);
        return;
      }
    }
  }

  /** One such message waits for the reply to the one before: many at once would be too many for the server. */
  #paced(message) {
    const sent = this.#repeating.then(() => this.request(message));
    this.#repeating = sent.catch(() => {}).then(() => new Promise((resolve) => setTimeout(resolve, REPEAT_MS)));
    return sent;
  }

  /**
   * Says how large a stream's picture is shown. Of a camera that sends several encodings, no larger one comes than that needs.
   *
   * @param {string} stream
   * @param {number} height In the screen's own pixels; Infinity for the best there is, 0 for what isn't looked at.
   */
  setSize(stream, height) {
    if (typeof height !== "number" || !(height >= 0)) throw badRequest("A height is a number of lines.");
    this.#wishes.size(stream, height);
    // What begins is not to begin too large.
    const isNew = encodingCountOf(this.streams.get(stream)) > 1 && !this.#toldEncodings.has(stream);
    if (isNew) clearTimeout(this.#sizing);
    else if (this.#sizing) return;
    this.#sizing = setTimeout(() => this.#tellSizes(), isNew ? 0 : SIZES_MS);
  }

  #tellSizes() {
    this.#sizing = null;
    if (this.state !== "joined") return;
    const changes = [];
    for (const [id, stream] of this.streams) {
      const [height, count] = [this.#wishes.heightOf(id), encodingCountOf(stream)];
      if (height === undefined || count === 1) continue;
      const encoding = encodingFor(height, count, stream.height);
      if (this.#toldEncodings.get(id) === encoding) continue;
      this.#toldEncodings.set(id, encoding);
      changes.push({ stream: id, encoding });
    }
    while (changes.length > 0) this.#post({ type: "update", encodings: changes.splice(0, SIZES_IN_MESSAGE) });
  }

  // Others

  /** Says something to one other, or to all. `data` is any JSON of at most 16 KB, 12,000 bytes where it is encrypted. */
  async send(data, to) {
    const sent = this.#encryption ? await sealed(this.#encryption, { purpose: MESSAGE, from: this.peer, to: to ?? ALL, data }) : data;
    return this.request({ type: "message", data: sent, ...(to ? { to } : {}) });
  }

  /**
   * As a host: lock, unlock or end the room; mute or remove a peer.
   *
   * @param {"lock"|"unlock"|"end"|"mute"|"remove"} action
   * @param {string=} peer
   * @param {{stream: string, muted: ("audio"|"video")[]}=} what Which stream of his is to be muted, and what of it; his sound by default.
   */
  async act(action, peer, what = {}) {
    try {
      await this.request({ type: "update", action, peer, ...what });
    } catch (error) {
      // Whoever ends the room is told `left` as all are, and nothing else.
      if (action !== "end" || error.code !== "left") throw error;
    }
  }

  // End-to-end encryption

  /** Encrypts with another key from now on: `{passphrase}` or `{key}`, with its `generation`, 0 to 255. */
  async setKey(key) {
    await this.#needEncryption().setKey(key);
  }

  /**
   * Goes on to the key that follows from this one. Others follow by themselves when they see what we send.
   *
   * @returns {Promise<{key: Uint8Array, generation: number, step: number}>} For who joins from now on (Encryption.ratchet).
   */
  async ratchet() {
    return this.#needEncryption().ratchet();
  }

  /** Frames, milliseconds and failures of the encryption, as Encryption.statistics has them; null without it. */
  async encryptionStatistics() {
    return this.#encryption && this.state !== "left" ? this.#encryption.statistics() : null;
  }

  #needEncryption() {
    if (!this.#encryption) throw new SluiceError({ code: "conflict", message: "This room was joined without encryption." });
    return this.#encryption;
  }

  #noteReadable({ track, readable }) {
    if (readable) this.#unreadable.delete(track);
    else this.#unreadable.add(track);
    for (const stream of this.streams.values()) {
      if (stream.media.getTracks().includes(track)) this.#judgeReadable(stream);
    }
  }

  #judgeReadable(stream) {
    const undecryptable = stream.media.getTracks().some((track) => this.#unreadable.has(track));
    if (undecryptable === stream.undecryptable) return;
    stream.undecryptable = undecryptable;
    this.#emit("stream-updated", stream);
  }

  leave() {
    this.#leave();
  }

  #leave(how = {}) {
    if (this.state === "left") return;
    this.#say({ type: "leave", ...how });
    this.#end();
  }

  /** @param {LocalStream} stream */
  async tellMuted(stream) {
    // Otherwise it is told with the stream.
    if (this.state === "joined" && this.published.includes(stream) && this.connections.send) {
      await this.request({ type: "update", stream: stream.id, muted: stream.muted });
    }
  }

  // The socket

  async #connect() {
    const { room, name, role, policy } = this.#options;
    const token = await this.#token();
    if (this.state === "left") throw this.#leftError();
    const socket = new WebSocket(this.#url, "sluice.v1");
    this.#socket = socket;
    this.#isIn = false;
    await new Promise((resolve, reject) => {
      const unreachable = () => reject(new SluiceError({ code: "closed", message: "The server can't be reached." }));
      const timer = setTimeout(unreachable, CONNECT_MS);
      socket.onopen = () => {
        clearTimeout(timer);
        resolve();
      };
      socket.onerror = unreachable;
    }).catch((error) => {
      socket.close();
      throw error;
    });
    socket.onerror = null;
    socket.onmessage = (event) => this.#receive(socket, JSON.parse(event.data));
    socket.onclose = () => this.#closed(socket);
    this.#heardAt = performance.now();
    clearInterval(this.#pinger);
    this.#pinger = setInterval(() => {
      if (performance.now() - this.#heardAt > 2 * PING_MS) this.#abandon(socket);
      else this.#say({ type: "ping" });
    }, PING_MS);
    const privacy = this.#encryption ? "e2ee" : this.#options.privacy;
    const join = { type: "join", room, name, token, role, policy, privacy, resume: this.#resume ?? undefined };
    // It is looked at in the same moment as it comes: nothing that stands behind it is heard before.
    await this.#ask(join, (joined) => this.#joined(joined)).catch((error) => {
      // The server's words are for those who write clients.
      throw error.code === "privacy" ? otherMode(!this.#encryption) : error;
    });
  }

  /** What the application gives, or gives when it is asked. */
  async #token() {
    const { token } = this.#options;
    if (typeof token !== "function") return token;
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(reject, REPLY_MS, new SluiceError({ code: "timeout", message: "The application gave no token." }));
    });
    try {
      return await Promise.race([token(), late]);
    } catch (error) {
      // Where we come back, it is asked again; who waits for the joining is told anyway.
      if (this.state !== "connecting") this.#emit("error", error);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #joined(joined) {
    if (joined.type !== "joined") throw new SluiceError({ code: "internal", message: "The server did not answer as it has to." });
    this.#checkPrivacy(joined.privacy?.mode);
    this.#isIn = true;
    this.peer = joined.peer;
    this.#resume = joined.resume;
    this.#iceServers = joined.iceServers;
    this.privacy = joined.privacy;
    this.rights = joined.rights;
    this.locked = joined.locked;
    this.peers = new Map(joined.peers.map((peer) => [peer.peer, peer]));
    this.viewerCount = joined.viewers;
    // Connections of another stay, and those that the server has lost meanwhile, lead nowhere.
    if (!joined.connections.includes("send")) this.#sending.drop();
    if (!joined.connections.includes("receive")) this.#dropReceiver();
    // What was told on a socket that led nowhere has not arrived.
    this.#toldEncodings.clear();
    if (!joined.resumed) this.#wishes.forgotten();
    const known = new Set(joined.streams.map((stream) => stream.stream));
    for (const id of [...this.streams.keys()]) if (!known.has(id)) this.#removeStream(id);
    for (const stream of joined.streams) this.#updateStream(stream);
    this.#setState("joined");
    this.#tellSizes();
    this.#emit("peers");
    if (this.#isBroken(this.#receiver)) this.#post({ type: "restart" });
    // The server was not asked to renew what it has, or has not heard it; or it was another page that had it.
    if (!this.#receiver && joined.connections.includes("receive")) this.#renewReceiver();
    const isOurs = ({ stream, peer }) => peer === this.peer && !this.published.some(({ id }) => id === stream);
    if (joined.resumed) for (const { stream } of joined.streams.filter(isOurs)) this.#post({ type: "unpublish", stream });
    // Whatever was published or ended while the socket was gone is told now.
    if (this.#sending.isDue) this.#sending.republish();
  }

  /** Whatever the server says, nothing is sent in the clear where it was to be encrypted, nor the other way about. */
  #checkPrivacy(mode) {
    const isEncrypted = mode === "e2ee";
    if (isEncrypted === Boolean(this.#encryption)) return;
    throw otherMode(isEncrypted);
  }

  #closed(socket, wait = backOff(this.#attempt++)) {
    if (socket !== this.#socket || this.state === "left") return;
    this.#socket = null;
    this.#isIn = false;
    clearInterval(this.#pinger);
    this.#refuseWaiting(new SluiceError({ code: "closed", message: "The connection is gone." }));
    if (this.state === "connecting") return;
    this.#setState("reconnecting");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#reconnect(), wait);
  }

  #refuseWaiting(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  /** A socket that leads nowhere: what it says when it closes comes too late. */
  #abandon(socket) {
    socket.close();
    this.#closed(socket, 0);
  }

  /** Asks whether the socket still leads to the server: when the network has changed, nothing else tells. */
  #probe() {
    const socket = this.#socket;
    const askedAt = performance.now();
    if (!this.#say({ type: "ping" })) return;
    setTimeout(() => {
      if (socket === this.#socket && this.#heardAt < askedAt) this.#abandon(socket);
    }, PONG_MS);
  }

  async #reconnect() {
    try {
      await this.#connect();
    } catch (error) {
      if (error instanceof SluiceError && !error.isTemporary) {
        this.#say({ type: "leave" });
        this.#end(error);
      } else if (this.#socket?.readyState === WebSocket.OPEN) {
        this.#socket.close();
      } else {
        this.#closed(this.#socket);
      }
    }
  }

  /** Sends a message and waits for its reply. */
  async request(message) {
    if (this.state === "left") throw this.#leftError();
    if (!this.#isIn) throw new SluiceError({ code: "closed", message: "The connection is gone." });
    return this.#ask(message);
  }

  /** @param {(reply: object) => void=} take Looks at the reply in the moment in which it comes; what it throws is thrown to who waits. */
  #ask(message, take = () => {}) {
    const id = this.#nextID++;
    return new Promise((resolve, reject) => {
      if (!this.#say({ ...message, id })) {
        reject(new SluiceError({ code: "closed", message: "The connection is gone." }));
        return;
      }
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new SluiceError({ code: "timeout", message: "The server did not answer." }));
      }, REPLY_MS);
      this.#waiting.set(id, {
        resolve: (reply) => {
          clearTimeout(timer);
          try {
            take(reply);
            resolve(reply);
          } catch (error) {
            reject(error);
          }
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
    });
  }

  /** Says something to the server once we are in the room. @returns {boolean} Whether it could be said. */
  #post(message) {
    return this.#isIn && this.#say(message);
  }

  #say(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #receive(socket, message) {
    if (socket !== this.#socket) return;
    this.#heardAt = performance.now();
    const waiting = this.#waiting.get(message.id);
    if (waiting) {
      this.#waiting.delete(message.id);
      if (message.type === "error") waiting.reject(new SluiceError(message));
      else waiting.resolve(message);
      return;
    }
    // Nothing of a room that was not looked at yet: it may be none that may be heard, or answered.
    if (!this.#isIn && !["pong", "left", "error"].includes(message.type)) return;
    switch (message.type) {
      case "peer-joined":
        for (const peer of message.peers) if (peer.peer !== this.peer) this.peers.set(peer.peer, peer);
        this.viewerCount = message.viewers;
        this.#emit("peers");
        break;
      case "peer-left":
        for (const peer of message.peers) this.peers.delete(peer);
        this.viewerCount = message.viewers;
        this.#emit("peers");
        break;
      case "stream-added":
      case "stream-updated":
        this.#updateStream(message.stream);
        break;
      case "stream-removed":
        this.#removeStream(message.stream);
        break;
      case "offer":
        this.#offers = this.#offers.then(() => this.#take(message, socket));
        break;
      case "pong":
        // It was not let in only to be thrown out again.
        this.#attempt = 0;
        break;
      case "connection-lost":
        if (message.connection === "send") {
          this.#sending.drop();
          if (this.published.length > 0) this.#sending.republish();
        } else {
          this.#renewReceiver();
        }
        break;
      case "speakers":
        this.#emit("speakers", message.streams);
        break;
      case "quality":
        this.#emit("quality", message.streams);
        break;
      case "message":
        this.#hear(message);
        break;
      case "mute":
        this.#emit("muted-by-host", { by: message.by, stream: message.stream, muted: message.muted });
        break;
      case "room-updated":
        this.locked = message.locked;
        this.#emit("room-updated", message);
        break;
      case "left":
        // With a code also what an application does about it may be another thing.
        this.#end(message.code ? new SluiceError({ code: message.code, message: message.reason }) : null, message.reason);
        break;
      case "error":
        this.#emit("error", new SluiceError(message));
        break;
    }
  }

  async #hear({ from, data }) {
    try {
      this.#emit("message", { from, data: this.#encryption ? await this.#unsealed(from, data) : data });
    } catch {
      const message = "A message came that is encrypted with another key, or was not said by who the server says.";
      this.#emit("error", new SluiceError({ code: "undecryptable", message }));
    }
  }

  /** A message that can't be decrypted was not said by anybody who has the key. To whom one is, and from whom, is not the server's word. */
  async #unsealed(from, data) {
    const message = await opened(this.#encryption, data);
    const isForUs = message.to === ALL || message.to === this.peer;
    if (message.purpose !== MESSAGE || message.from !== from || !isForUs) throw new Error("It was sealed as another message.");
    return message.data;
  }

  // Streams

  #updateStream(description) {
    // One of ours that the server does not know yet to have ended is ours too.
    const own = description.peer === this.peer || this.published.some((stream) => stream.id === description.stream);
    if (own) return;
    const known = this.streams.get(description.stream);
    const stream = known ?? { id: description.stream, media: new MediaStream(), undecryptable: false };
    Object.assign(stream, {
      peer: description.peer,
      kind: description.kind,
      height: description.height,
      live: description.live,
      muted: description.muted,
      tracks: description.tracks,
    });
    this.streams.set(stream.id, stream);
    const height = this.#wishes.heightOf(stream.id);
    if (height !== undefined) this.setSize(stream.id, height);
    this.#repeatWishes(stream);
    if (known) {
      this.#emit("stream-updated", stream);
      return;
    }
    this.#unannounced.add(stream);
    if (this.#isHeard) this.#announce();
  }

  #removeStream(id) {
    const stream = this.streams.get(id);
    if (!stream) return;
    this.streams.delete(id);
    this.#unannounced.delete(stream);
    this.#toldEncodings.delete(id);
    // One that comes again under this id is another to the server.
    this.#wishes.forgotten(id);
    for (const track of stream.media.getTracks()) stream.media.removeTrack(track);
    this.#emit("stream-removed", stream);
  }

  // The connection that we receive on

  async #take(offer, socket) {
    // After it was asked to renew, everything is offered again; as on the next socket, where this one's answer would not arrive.
    if (this.state === "left" || this.#renewing !== null || socket !== this.#socket) return;
    const connection = (this.#receiver ??= this.#makeReceiver());
    try {
      await this.#answer(connection, offer);
    } catch (error) {
      this.#receivingFailed(connection, error);
    }
  }

  #receivingFailed(connection, error) {
    // One that was dropped meanwhile was not meant to take it.
    if (connection !== this.#receiver) return;
    this.#emit("error", error);
    this.#renewReceiver();
  }

  #makeReceiver() {
    const connection = this.#makeConnection();
    connection.addEventListener("track", ({ receiver }) => {
      try {
        this.#encryption?.reveal(receiver);
      } catch (error) {
        // It would play what nobody with the key has sealed.
        this.#receivingFailed(connection, error);
      }
    });
    const comes = (stream) => stream.live && this.#wishes.expects(stream) && stream.media.getTracks().length > 0;
    const expected = () => [...this.streams.values()].some(comes);
    this.#watch(connection, expected, () => this.#post({ type: "restart" }));
    return connection;
  }

  async #answer(connection, offer) {
    await whileOpen(connection, connection.setRemoteDescription({ type: "offer", sdp: offer.sdp }));
    if (connection !== this.#receiver) return;
    this.#encryption?.requireSealed(connection);
    const answer = await whileOpen(connection, connection.createAnswer());
    const sdp = stereoDescription(answer.sdp, offer.sdp);
    // Only where there is stereo a browser is given another description than its own.
    await whileOpen(connection, connection.setLocalDescription(sdp === answer.sdp ? undefined : { type: "answer", sdp }));
    if (connection !== this.#receiver) return;
    this.#renewals = 0;
    this.#post({ type: "answer", offer: offer.offer, sdp: connection.localDescription.sdp });
    const tracks = new Map(connection.getTransceivers().map((transceiver) => [transceiver.mid, transceiver.receiver.track]));
    for (const entry of offer.streams) {
      const stream = this.streams.get(entry.stream);
      if (!stream) continue;
      const wanted = entry.mids.map((mid) => tracks.get(mid)).filter(Boolean);
      for (const track of stream.media.getTracks()) if (!wanted.includes(track)) stream.media.removeTrack(track);
      for (const track of wanted) {
        if (stream.media.getTracks().includes(track)) continue;
        // What was found of its frames says nothing of another stream that has its m-line now.
        this.#unreadable.delete(track);
        stream.media.addTrack(track);
      }
      this.#judgeReadable(stream);
      this.#emit("stream-updated", stream);
    }
  }

  #makeConnection() {
    const configuration = this.#encryption ? Encryption.configuration : {};
    return new RTCPeerConnection({ iceServers: this.#iceServers, bundlePolicy: "max-bundle", ...configuration });
  }

  /** A connection that is lost or can't take what is offered is made anew: at once, and with growing pauses while that doesn't help. */
  #renewReceiver() {
    this.#dropReceiver();
    clearTimeout(this.#renewing);
    const renew = async () => {
      this.#renewing = null;
      try {
        await this.request({ type: "restart", action: "renew" });
      } catch (error) {
        // On the next socket it is asked for again.
        if (this.state !== "joined" || ["closed", "left"].includes(error.code)) return;
        this.#emit("error", error);
        if (error.isTemporary) this.#renewReceiver();
      }
    };
    if (this.#renewals === 0) renew();
    else this.#renewing = setTimeout(renew, backOff(this.#renewals));
    this.#renewals += 1;
  }

  #dropReceiver() {
    this.#close(this.#receiver);
    this.#receiver = null;
  }

  // Both connections

  /** Restarts ICE when nothing comes through a connection any more, by another socket where the old one is gone as well. */
  #watch(connection, isExpected, restart) {
    const path = new PathWatch(connection, isExpected, () => this.#probe(), restart);
    this.#paths.set(connection, path);
    connection.addEventListener("connectionstatechange", () => {
      this.#emit("connection", { connection, state: connection.connectionState });
    });
  }

  #isBroken(connection) {
    return connection?.connectionState === "failed" || this.#paths.get(connection)?.isBroken === true;
  }

  #close(connection) {
    if (!connection) return;
    this.#paths.get(connection)?.close();
    this.#paths.delete(connection);
    closeConnection(connection);
  }

  // Ends

  #end(error = null, reason = null) {
    if (this.state === "left") return;
    this.#ending.abort();
    clearTimeout(this.#timer);
    clearInterval(this.#pinger);
    for (const timer of [this.#sizing, this.#renewing]) clearTimeout(timer);
    const left = this.#leftError(reason);
    this.#sending.end(left);
    this.#dropReceiver();
    this.#encryption?.close();
    this.#refuseWaiting(left);
    this.#setState("left", error);
    this.#socket?.close();
    this.#socket = null;
    this.#emit("left", { reason, error });
  }

  #leftError(reason) {
    return new SluiceError({ code: "left", message: reason ?? "The room was left." });
  }

  #setState(state, error) {
    this.state = state;
    this.#emit("state", { state, error });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** What is wrong with a room of the other privacy mode. */
function otherMode(isEncrypted) {
  const message = isEncrypted
    ? "This room is end-to-end encrypted: its key is needed."
    : "This room is not end-to-end encrypted, which was asked for.";
  return new SluiceError({ code: "privacy", message });
}

/** How long to wait after so many attempts in vain, with a little chance so that not all come back together. */
function backOff(attempt) {
  return Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt) * (0.75 + Math.random() / 2);
}

/** As how many encodings a remote stream's video is sent. */
function encodingCountOf(stream) {
  return stream?.tracks.find((track) => track.kind === "video")?.encodings ?? 1;
}

/** The places of tracks of these kinds in a stream. */
function placesOf(stream, kinds) {
  return (stream?.tracks ?? []).flatMap((track, place) => (kinds.includes(track.kind) ? [place] : []));
}

/** What would be taken for something else, or for nothing, is refused. */
function checkOptions({ room, token, role = "publish", policy = "all", privacy, encryption } = {}) {
  const oneOf = (name, value, values) => {
    if (!values.includes(value)) throw badRequest(`${name} is ${values.join(" or ")}.`);
  };
  if (typeof room !== "string" || !room) throw badRequest("The room's id is needed.");
  oneOf("role", role, ["publish", "view"]);
  oneOf("policy", policy, ["all", "none"]);
  oneOf("privacy", privacy ?? "e2ee", encryption ? ["e2ee"] : ["transport", "e2ee"]);
  if (token !== undefined && token !== null && !["string", "function"].includes(typeof token)) {
    throw badRequest("token is a string, or a function that gives one.");
  }
}

/** An id that nobody guesses: 128 bits. */
export function randomID() {
  return base64(crypto.getRandomValues(new Uint8Array(16))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** A message in an encrypted room: the server passes on what it can't read. */
async function sealed(encryption, message) {
  return { sframe: base64(await encryption.seal(utf8.encode(JSON.stringify(message)))) };
}

async function opened(encryption, data) {
  const bytes = Uint8Array.from(atob(data.sframe), (character) => character.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(await encryption.open(bytes)));
}

function base64(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
