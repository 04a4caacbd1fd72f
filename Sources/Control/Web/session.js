// One WHIP or WHEP session (RFC 9725) that connects again by itself when its connection or the server goes away.

import { isWorded } from "/assets/capture.js";
import { musicOffer, PathWatch, stereoDescription } from "/sdk/sluice.js";

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 5000;
// A connection that is interrupted for longer is made anew.
const DISCONNECTED_MS = 2000;
const CONNECT_MS = 15000;
// A server that is asked whether it knows a session, and says nothing for so long, is gone.
const PROBE_MS = 2000;

/** What the server said about a request that it refused. */
export class RefusedError extends Error {
  constructor(status, detail, { retryAfterSeconds = null, privacy = null } = {}) {
    super(detail);
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
    /** The room's mode, where it is not the one that was asked for. */
    this.privacy = privacy;
  }

  /** Whether asking again later can help. A room never changes its mode. */
  get isTemporary() {
    return [404, 409, 429, 503].includes(this.status) && !this.privacy;
  }
}

/**
 * Keeps one session alive. Events: "state" (detail: state, message), "privacy" (detail: mode).
 *
 * With an Encryption (`/sdk/sluice.js`) the room has to be an encrypted one: the server is told so with every request, and nothing is
 * offered that isn't encrypted. Where something goes wrong before the offer, the connection is closed and the session has failed.
 *
 * States: idle, connecting, waiting (the server says that it is not yet possible), live, reconnecting, failed.
 */
export class Session extends EventTarget {
  #url;
  #token;
  #encryption;
  #prepare;
  #isMusic;
  #connection = null;
  #path = null;
  #location = null;
  #timer = null;
  #attempt = 0;
  #run = 0;
  #ending = new AbortController();

  state = "idle";

  /**
   * @param {string} url
   * @param {string} token
   * @param {object} options
   * @param {(connection: RTCPeerConnection) => (void|Promise<void>)} options.prepare Adds what is to be offered, each time anew.
   * @param {import("/sdk/sluice.js").Encryption|null=} options.encryption
   * @param {boolean=} options.isMusic Whether its sound is offered in stereo.
   */
  constructor(url, token, { prepare, encryption = null, isMusic = false }) {
    super();
    this.#url = url;
    this.#token = token;
    this.#prepare = prepare;
    this.#encryption = encryption;
    this.#isMusic = isMusic;
    addEventListener("pagehide", () => this.#hangUp(true), { signal: this.#ending.signal });
  }

  get connection() {
    return this.#connection;
  }

  start() {
    this.#attempt = 0;
    this.#connect("connecting");
  }

  stop() {
    this.#run += 1;
    this.#end("idle");
  }

  /** Nothing of the session stays, not even the listener that would keep it in memory. */
  #end(state, message) {
    clearTimeout(this.#timer);
    this.#ending.abort();
    this.#hangUp(false);
    this.#setState(state, message);
  }

  #headers(type) {
    const headers = type ? { "Content-Type": type } : {};
    if (this.#encryption) headers["Sluice-Privacy"] = "e2ee";
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
    return headers;
  }

  async #connect(state) {
    const run = ++this.#run;
    clearTimeout(this.#timer);
    this.#hangUp(false);
    this.#setState(state);
    const configuration = this.#encryption ? this.#encryption.constructor.configuration : {};
    let connection;
    try {
      connection = this.#connection = new RTCPeerConnection({ bundlePolicy: "max-bundle", ...configuration });
      connection.addEventListener("connectionstatechange", () => {
        if (run === this.#run) this.#connectionChanged(connection, run);
      });
      await this.#prepare(connection);
      this.#encryption?.requireSealed(connection);
      const { sdp } = await connection.createOffer();
      await connection.setLocalDescription({ type: "offer", sdp: stereoDescription(sdp) });
    } catch (error) {
      // Nothing of it was offered. It would be no better the next time.
      connection?.close();
      if (run === this.#run) this.#end("failed", plainly(error));
      return;
    }
    try {
      const offer = connection.localDescription?.sdp;
      if (run !== this.#run || !offer) return;
      const response = await fetch(this.#url, {
        method: "POST",
        headers: this.#headers("application/sdp"),
        body: this.#isMusic ? musicOffer(offer, () => true) : offer,
      });
      // First of all the session is known: whatever is wrong with it, it is ended on the server too.
      const location = response.ok ? new URL(response.headers.get("Location"), this.#url).href : null;
      if (run !== this.#run) {
        if (location) this.#delete(location);
        return;
      }
      this.#location = location;
      const privacy = response.headers.get("Sluice-Privacy");
      if (privacy) this.dispatchEvent(new CustomEvent("privacy", { detail: privacy }));
      if (!response.ok) throw await refusal(response);
      // Whatever the server says: nothing is sent or shown in another mode than the one that was asked for.
      if ((privacy === "e2ee") !== Boolean(this.#encryption)) throw new RefusedError(403, otherMode(privacy));
      await connection.setRemoteDescription({ type: "answer", sdp: await response.text() });
      if (run !== this.#run) return;
      this.#watchPath(connection, run);
      this.#later(CONNECT_MS, run, () => this.#retry(run));
    } catch (error) {
      if (run !== this.#run) return;
      if (error instanceof RefusedError && !error.isTemporary) {
        this.#end("failed", error.message);
      } else {
        this.#retry(run, error);
      }
    }
  }

  #connectionChanged(connection, run) {
    switch (connection.connectionState) {
      case "connected":
        clearTimeout(this.#timer);
        this.#attempt = 0;
        this.#setState("live");
        break;
      case "disconnected":
        this.#setState("reconnecting");
        this.#later(DISCONNECTED_MS, run, () => this.#retry(run));
        break;
      case "failed":
      case "closed":
        this.#retry(run);
        break;
    }
  }

  /**
   * A server that was restarted says nothing: that nothing comes any more is noticed long before the browser gives the connection up.
   * Then it is asked whether it knows the session. It may be its publisher who is silent.
   */
  #watchPath(connection, run) {
    const isExpected = () => connection.connectionState === "connected";
    const ask = () => {
      if (run === this.#run) this.#probe(connection, run);
    };
    this.#path = new PathWatch(connection, isExpected, ask, ask);
  }

  async #probe(connection, run) {
    const location = this.#location;
    if (!location) return;
    const description = connection.localDescription?.sdp ?? "";
    const line = (name) => description.match(new RegExp(`^a=${name}:.*$`, "m"))?.[0].trim();
    // Our own credentials once more, and no candidate: it changes nothing (RFC 9725 §4.3.1).
    const fragment = [line("ice-ufrag"), line("ice-pwd"), "m=audio 9 UDP/TLS/RTP/SAVPF 0", line("mid"), ""].join("\r\n");
    let isGone;
    try {
      const type = "application/trickle-ice-sdpfrag";
      const signal = AbortSignal.timeout(PROBE_MS);
      const { status } = await fetch(location, { method: "PATCH", headers: this.#headers(type), body: fragment, signal });
      isGone = status === 404;
    } catch {
      // Neither media nor an answer: the server is gone, or the network is.
      isGone = true;
    }
    if (!isGone || run !== this.#run) return;
    // It has nothing that could be ended.
    this.#location = null;
    this.#retry(run);
  }

  /** Tries again: soon at first, later and later then, and never in step with everybody else. */
  #retry(run, error) {
    if (run !== this.#run) return;
    this.#hangUp(false);
    let wait = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#attempt) * (0.75 + Math.random() / 2);
    const isWaiting = error instanceof RefusedError;
    if (isWaiting) wait = (error.retryAfterSeconds ?? 1) * 1000;
    else this.#attempt += 1;
    this.#setState(isWaiting ? "waiting" : "reconnecting", error?.message);
    this.#later(wait, run, () => this.#connect(isWaiting ? "waiting" : "reconnecting"));
  }

  #later(milliseconds, run, action) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (run === this.#run) action();
    }, milliseconds);
  }

  #hangUp(isLeaving) {
    if (this.#location) {
      this.#delete(this.#location, isLeaving);
      this.#location = null;
    }
    this.#path?.close();
    this.#path = null;
    this.#connection?.close();
    this.#connection = null;
  }

  #delete(location, isLeaving = false) {
    fetch(location, { method: "DELETE", headers: this.#headers(), keepalive: isLeaving }).catch(() => {});
  }

  #setState(state, message) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, message } }));
  }
}

/** What a browser says of its own parts helps nobody. */
function plainly(error) {
  if (isWorded(error)) return error.message;
  return "The browser could not set up the connection: nothing was sent. Load the page again, or try another browser.";
}

function otherMode(mode) {
  return mode === "e2ee"
    ? "This room is end-to-end encrypted: its key is needed."
    : "This room is not end-to-end encrypted, which its address promises.";
}

async function refusal(response) {
  // Something between us and the server may have answered in its own way.
  const problem = (await response.json().catch(() => null)) ?? {};
  const detail = problem.privacy ? otherMode(problem.privacy) : (problem.detail ?? `The server answered ${response.status}.`);
  const seconds = Number(response.headers.get("Retry-After"));
  const retryAfterSeconds = Number.isFinite(seconds) && seconds > 0 ? seconds : null;
  return new RefusedError(response.status, detail, { retryAfterSeconds, privacy: problem.privacy });
}
