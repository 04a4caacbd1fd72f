// Notices that nothing comes through a connection any more, sooner than the browser says so: the network may have changed.

const SAMPLE_MS = 250;
// So many samples in a row that bring something make a flow. When it stops for so long, it is asked whether the socket still leads
// anywhere; when it stops for longer, the connection is broken.
const FLOWING_SAMPLES = 4;
const DOUBT_MS = 450;
const SILENCE_MS = 900;
// A restart is tried again when nothing came of it, a few times: it may be silence after all.
const RETRY_MS = 2000;
const TRIES = 3;

export class PathWatch {
  #connection;
  #isExpected;
  #doubted;
  #broken;
  #isDoubted = false;
  #timer;
  #bytes = 0;
  #grown = 0;
  #isSilent = false;
  #heardAt = performance.now();
  #sampledAt = performance.now();
  #triedAt = 0;
  #tries = 0;

  /**
   * @param {RTCPeerConnection} connection
   * @param {() => boolean} isExpected Whether something should come now.
   * @param {() => void} doubted Called when nothing comes that should.
   * @param {() => void} broken Called when that goes on.
   */
  constructor(connection, isExpected, doubted, broken) {
    this.#connection = connection;
    this.#isExpected = isExpected;
    this.#doubted = doubted;
    this.#broken = broken;
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS);
    connection.addEventListener("connectionstatechange", () => this.#stateChanged());
  }

  /** Whether the connection was found broken, and nothing has come through since. */
  get isBroken() {
    return this.#tries > 0;
  }

  close() {
    clearInterval(this.#timer);
  }

  #stateChanged() {
    const { connectionState } = this.#connection;
    if (connectionState === "closed") this.close();
    else if ((connectionState === "disconnected" && !this.isBroken) || connectionState === "failed") this.#break();
  }

  async #sample() {
    const now = performance.now();
    // A page that was asleep knows nothing of what came meanwhile.
    if (now - this.#sampledAt > 2 * SILENCE_MS) this.#heardAt = now;
    this.#sampledAt = now;
    const bytes = await bytesReceived(this.#connection);
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#heardAt = now;
      this.#grown = this.#isSilent ? 1 : this.#grown + 1;
      this.#isSilent = false;
      this.#tries = 0;
      this.#isDoubted = false;
      return;
    }
    this.#isSilent = true;
    if (!this.#isExpected() || this.#connection.connectionState === "new") return;
    const isFlow = this.#grown >= FLOWING_SAMPLES;
    const isDue = this.isBroken ? this.#tries < TRIES && now - this.#triedAt > RETRY_MS : isFlow;
    if (isFlow && !this.#isDoubted && now - this.#heardAt > DOUBT_MS) {
      this.#isDoubted = true;
      this.#doubted();
    }
    if (isDue && now - this.#heardAt > SILENCE_MS) this.#break();
  }

  #break() {
    this.#tries += 1;
    this.#triedAt = performance.now();
    this.#grown = 0;
    this.#broken();
  }
}

async function bytesReceived(connection) {
  if (connection.connectionState === "closed") return 0;
  let bytes = 0;
  for (const item of (await connection.getStats()).values()) if (item.type === "candidate-pair") bytes += item.bytesReceived ?? 0;
  return bytes;
}

const closings = new WeakMap();

/** Rejects once a connection is closed by closeConnection. */
function closingOf(connection) {
  if (!closings.has(connection)) {
    let close;
    const closed = new Promise((_, reject) => (close = reject));
    closed.catch(() => {});
    closings.set(connection, { closed, close });
  }
  return closings.get(connection);
}

/** What a connection is asked for is never settled once it is closed (WebRTC §4.4.1.2): this is, and nobody waits for ever. */
function whileOpen(connection, work) {
  return Promise.race([work, closingOf(connection).closed]);
}

function closeConnection(connection) {
  connection.close();
  closingOf(connection).close(new SluiceError({ code: "closed", message: "The connection is gone." }));
}
