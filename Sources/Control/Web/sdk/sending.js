// The connection that a room's streams are sent on. Nothing is sent in the clear that was to be encrypted, whatever throws and wherever:
// a sender gets its encryption before it gets a track, each sender is looked at before anything is offered, and a connection at which
// something went wrong is closed. Docs/Encryption.md has its states.

// What a publisher of music may use for it.
const MUSIC_BITS_PER_SECOND = 128_000;
// So many m-lines may stand in a description to no use.
const MOST_SPOILED = 6;

/**
 * Adds what is to send a track to a connection: without the track, which it gets by `sender.replaceTrack` once all is in place. When
 * something throws, the connection is closed, as half of a sender would be in what is offered next.
 *
 * @param {RTCPeerConnection} connection
 * @param {"audio"|"video"} kind
 * @param {object=} options
 * @param {Encryption=} options.encryption Seals what is sent.
 * @param {string=} options.codec Such as `VP9`: comes first where the browser has it.
 * @param {boolean=} options.music Of a sound: spends what music needs. See musicOffer.
 * @param {RTCRtpEncodingParameters[]=} options.sendEncodings
 * @param {MediaStream[]=} options.streams
 * @returns {RTCRtpTransceiver}
 */
export function addSender(connection, kind, { encryption, codec, music, ...init } = {}) {
  try {
    if (music && kind === "audio") init.sendEncodings ??= [{ maxBitrate: MUSIC_BITS_PER_SECOND }];
    const transceiver = connection.addTransceiver(kind, { direction: "sendonly", ...init });
    encryption?.protect(transceiver.sender);
    preferCodec(transceiver, kind, codec, encryption);
    return transceiver;
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** The codec that is wanted comes first; the others stay behind it, with what repairs them. */
function preferCodec(transceiver, kind, codec, encryption) {
  const codecs = encryption ? Encryption.codecs(kind) : RTCRtpReceiver.getCapabilities(kind).codecs;
  const isWanted = ({ mimeType }) => mimeType.toLowerCase() === `${kind}/${codec}`.toLowerCase();
  transceiver.setCodecPreferences?.([...codecs.filter(isWanted), ...codecs.filter((other) => !isWanted(other))]);
}

/**
 * What a room gives to its sending side.
 * @typedef {object} SendingRoom
 * @property {() => boolean} isJoined
 * @property {() => void} checkPrivacy Throws where the room is not in the mode that was asked for.
 * @property {() => Encryption|null} encryption
 * @property {() => RTCPeerConnection} makeConnection
 * @property {(connection: RTCPeerConnection) => void} watch
 * @property {(connection: RTCPeerConnection) => boolean} isBroken
 * @property {(connection: RTCPeerConnection) => void} close
 * @property {(message: object) => Promise<object>} request
 * @property {(error: Error) => void} tell
 */

class Sending {
  /** @type {LocalStream[]} What we publish. */ published = [];
  /** @type {RTCPeerConnection|null} */ connection = null;
  /** @type {SendingRoom} */ #room;
  /** Whose each transceiver is: `{stream, kind}`, or null where it is free. */
  #transceivers = new Map();
  /** Transceivers that were made for music. */ #music = new WeakSet();
  /** Those whose first offer was refused. */ #spoiled = new WeakSet();
  /** Streams that the server has not got yet, and who waits for that. */
  #untold = new Map();
  #work = Promise.resolve();
  #timer = null;

  /** @param {SendingRoom} room */
  constructor(room) {
    this.#room = room;
  }

  /** Whether there is something to tell on a new socket. */
  get isDue() {
    return this.published.length > 0 || this.connection !== null;
  }

  /** @param {LocalStream} stream @returns {Promise<void>} Once the server has it: where the socket is gone, on the next one. */
  async publish(stream) {
    if (this.published.some((other) => other.id === stream.id)) {
      throw new SluiceError({ code: "conflict", message: "A stream with this id is published already." });
    }
    this.published.push(stream);
    const told = new Promise((resolve, reject) => this.#untold.set(stream, { resolve, reject }));
    this.#offer(stream).catch((error) => {
      if (error.code === "closed" && this.published.includes(stream)) return;
      this.#giveUp(stream, error);
      this.#restore();
    });
    await told;
  }

  /** @param {LocalStream} stream */
  async unpublish(stream) {
    if (!this.published.includes(stream)) return;
    this.#giveUp(stream, new SluiceError({ code: "closed", message: "The stream was stopped before it was published." }));
    if (this.#room.isJoined()) await this.update();
  }

  /** Tells the server how things stand with what is published; where the socket is gone, on the next one. */
  async update() {
    try {
      await this.#offer();
    } catch (error) {
      this.#restore();
      if (error.code === "closed") return;
      // It is told yet, as what has ended is not to go on for the others.
      if (error.isTemporary) this.#later(0);
      throw error;
    }
  }

  /**
   * Publishes everything, as after a reconnect. Whether we stay does not hang on it: what the server refuses is told, and offered again
   * with growing pauses.
   */
  async republish(attempt = 0) {
    clearTimeout(this.#timer);
    const isNew = (stream) => this.#untold.has(stream);
    try {
      if (this.published.length === 0 || !this.published.every(isNew)) await this.#offer();
    } catch (error) {
      // On the next socket everything is published again.
      if (!this.#room.isJoined() || error.code === "closed") return;
      if (attempt === 0) this.#room.tell(error);
      for (const stream of [...this.#untold.keys()]) this.#giveUp(stream, error);
      this.#later(attempt);
      return;
    }
    // What is new is offered by itself: one that is refused takes no other with it.
    for (const stream of [...this.#untold.keys()]) {
      await this.#offer(stream).catch((error) => {
        if (this.#room.isJoined() && error.code !== "closed") this.#giveUp(stream, error);
      });
    }
    this.#restore();
  }

  #later(attempt) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.republish(attempt + 1), backOff(attempt));
  }

  /** A connection that was closed for one stream's sake was others' too. */
  #restore() {
    const others = this.published.some((stream) => !this.#untold.has(stream));
    if (!this.connection && others && this.#room.isJoined()) this.republish();
  }

  /** What is not published any more, or never was. */
  #giveUp(stream, error) {
    this.published = this.published.filter((other) => other !== stream);
    stream.detach();
    this.#untold.get(stream)?.reject(error);
    this.#untold.delete(stream);
  }

  /** Closes the connection: the next offer makes another. */
  drop() {
    for (const stream of this.published) stream.detach();
    if (this.connection) this.#room.close(this.connection);
    this.connection = null;
    this.#transceivers = new Map();
  }

  /** @param {Error} error What is told to those who wait. */
  end(error) {
    clearTimeout(this.#timer);
    this.drop();
    for (const stream of [...this.#untold.keys()]) this.#giveUp(stream, error);
  }

  /** Offers what the server has of us, and one that is new. One offer waits for the one before. */
  #offer(added) {
    const work = this.#work.then(() => this.#negotiate(added));
    this.#work = work.catch(() => {});
    return work;
  }

  async #negotiate(added) {
    if (!this.#room.isJoined() || (added && !this.published.includes(added))) return;
    const offered = this.published.filter((stream) => stream === added || !this.#untold.has(stream));
    if (!this.connection && offered.length === 0) return;
    let connection = this.connection;
    let publish;
    try {
      this.#room.checkPrivacy();
      if (!connection) {
        connection = this.connection = this.#room.makeConnection();
        this.#room.watch(connection);
      }
      await this.#freeSenders(connection, offered);
      for (const stream of offered) await this.#attach(connection, stream);
      if (this.#room.isBroken(connection)) connection.restartIce();
      this.#room.encryption()?.requireSealed(connection);
      await whileOpen(connection, connection.setLocalDescription());
      publish = this.#describe(connection, offered);
    } catch (error) {
      this.#abandon(connection, error);
    }
    let answer;
    try {
      answer = await this.#room.request(publish);
    } catch (error) {
      if (connection === this.connection) await this.#rollBack(connection);
      throw error;
    }
    if (connection !== this.connection) return;
    try {
      await whileOpen(connection, connection.setRemoteDescription({ type: "answer", sdp: answer.sdp }));
    } catch (error) {
      this.#abandon(connection, error);
    }
    for (const stream of offered) {
      this.#untold.get(stream)?.resolve();
      this.#untold.delete(stream);
    }
  }

  /** What was half made must not be in what is offered next: the connection is closed. One that was dropped meanwhile has no say. */
  #abandon(connection, error) {
    if (connection && connection !== this.connection) throw new SluiceError({ code: "closed", message: "The connection is gone." });
    this.drop();
    throw error;
  }

  /**
   * Takes an offer back that the server has refused. A sender that was never negotiated is not used again: Chromium would offer it, and send
   * nothing. Where there is nothing else, or too much of it, the connection is made anew.
   */
  async #rollBack(connection) {
    if (connection.signalingState !== "have-local-offer") return;
    try {
      await whileOpen(connection, connection.setLocalDescription({ type: "rollback" }));
    } catch {
      if (connection === this.connection) this.drop();
      return;
    }
    if (connection !== this.connection) return;
    const all = [...this.#transceivers.keys()];
    for (const transceiver of all) if (!transceiver.currentDirection) this.#spoiled.add(transceiver);
    const spoiled = all.filter((transceiver) => this.#spoiled.has(transceiver));
    if (spoiled.length === all.length || spoiled.length > MOST_SPOILED) this.drop();
  }

  /** M-lines of streams and tracks that are gone are free for the next ones. */
  async #freeSenders(connection, offered) {
    for (const [transceiver, owner] of this.#transceivers) {
      const hasTrack = ({ stream, kind }) => stream.media.getTracks().some((track) => track.kind === kind);
      if (!owner || (offered.includes(owner.stream) && hasTrack(owner) && !this.#spoiled.has(transceiver))) continue;
      this.#transceivers.set(transceiver, null);
      owner.stream.detach(owner.kind);
      transceiver.direction = "inactive";
      await whileOpen(connection, transceiver.sender.replaceTrack(null));
    }
  }

  /** Gives a stream's tracks senders, where they have none. */
  async #attach(connection, stream) {
    for (const { kind } of stream.media.getTracks()) {
      if ([...this.#transceivers.values()].some((owner) => owner?.stream === stream && owner.kind === kind)) continue;
      const transceiver = this.#free(kind, stream) ?? this.#add(connection, kind, stream);
      this.#transceivers.set(transceiver, { stream, kind });
      // From here on whoever exchanges the track does so at the sender, while it is waited for this one too.
      const replaceTrack = (track) => whileOpen(connection, transceiver.sender.replaceTrack(track));
      stream.attach(kind, { replaceTrack });
      const current = () => stream.media.getTracks().find((track) => track.kind === kind) ?? null;
      let track;
      do {
        track = current();
        await replaceTrack(track);
      } while (track !== current());
    }
  }

  /** How many encodings an m-line has can't be changed. */
  #free(kind, stream) {
    const count = kind === "video" ? stream.encodings : 1;
    const isMusic = kind === "audio" && stream.music;
    const fits = (transceiver) => !this.#spoiled.has(transceiver) && transceiver.receiver.track.kind === kind && encodingCount(transceiver) === count &&
      this.#music.has(transceiver) === isMusic;
    const free = [...this.#transceivers].find(([transceiver, owner]) => !owner && fits(transceiver))?.[0];
    if (!free) return undefined;
    const encryption = this.#room.encryption();
    encryption?.protect(free.sender);
    preferCodec(free, kind, stream.codec, encryption);
    free.direction = "sendonly";
    return free;
  }

  #add(connection, kind, stream) {
    const count = kind === "video" ? stream.encodings : 1;
    const several = count > 1 ? { sendEncodings: sendEncodings(count) } : {};
    const { codec, music } = stream;
    const transceiver = addSender(connection, kind, { encryption: this.#room.encryption(), codec, music, ...several });
    if (kind === "audio" && music) this.#music.add(transceiver);
    return transceiver;
  }

  /** @returns {object} The message `publish`. */
  #describe(connection, offered) {
    const midsOf = (isWanted) => [...this.#transceivers].filter(isWanted).map(([transceiver]) => transceiver.mid);
    const music = midsOf(([transceiver, owner]) => owner && this.#music.has(transceiver));
    return {
      type: "publish",
      sdp: musicOffer(connection.localDescription.sdp, (mid) => music.includes(mid)),
      privacy: this.#room.encryption() ? "e2ee" : undefined,
      streams: offered.map((stream) => ({
        stream: stream.id,
        kind: stream.kind,
        muted: stream.muted,
        height: stream.height,
        mids: midsOf(([, owner]) => owner?.stream === stream),
      })),
    };
  }
}

function encodingCount(transceiver) {
  return Math.max(1, transceiver.sender.getParameters().encodings.length);
}
