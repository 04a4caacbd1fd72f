// What we publish into a room.

/** How a device is opened for music: as constraints of its `audio`. What browsers do for speech spoils it. */
export const MUSIC = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: { ideal: 2 } };

/** A stream that we publish. */
export class LocalStream {
  /** @type {string[]} Kinds of media that are muted. */ muted = [];
  #room;
  #senders = new Map();
  #isSimulcast;
  #isStopped = false;

  constructor(room, media, options) {
    checkMedia(media);
    this.#room = room;
    this.media = media;
    this.kind = options.kind ?? "camera";
    this.codec = options.codec;
    this.music = options.music ?? false;
    this.#isSimulcast = options.simulcast ?? this.kind === "camera";
    this.id = options.id ?? randomID();
    this.muted = media.getTracks().filter((track) => !track.enabled).map((track) => track.kind);
  }

  /** The lines of its picture, as others are told; undefined where that isn't known. */
  get height() {
    return Math.round(this.media.getVideoTracks()[0]?.getSettings().height ?? 0) || undefined;
  }

  /** As how many encodings its video is sent. */
  get encodings() {
    return this.#isSimulcast ? encodingsFor(this.media.getVideoTracks()[0]) : 1;
  }

  /** The room calls it when a track has got its sender. */
  attach(kind, sender) {
    this.#senders.set(kind, sender);
  }

  /** The room calls it when a sender is gone, or another stream's; or all of them. */
  detach(kind) {
    if (kind) this.#senders.delete(kind);
    else this.#senders.clear();
  }

  /** Mutes or unmutes `audio` or `video`, and tells the others. */
  async setMuted(kind, muted) {
    checkKind(kind);
    if (typeof muted !== "boolean") throw badRequest("muted is true or false.");
    for (const track of this.media.getTracks()) if (track.kind === kind) track.enabled = !muted;
    this.muted = this.muted.filter((other) => other !== kind).concat(muted ? [kind] : []);
    await this.#room.tellMuted(this);
  }

  /**
   * Sends another track in place of the one of its kind: another camera, without anybody noticing. Where there was none of its kind the
   * stream gets it in addition, and the others get the stream anew. When it can't be sent it is stopped, and what was before goes on.
   */
  async replaceTrack(track) {
    if (!(track instanceof MediaStreamTrack)) throw badRequest("A track is a MediaStreamTrack.");
    checkLive(track);
    if (this.#isStopped) {
      // The stream has ended while a camera was asked for: it is not left on.
      track.stop();
      throw new SluiceError({ code: "closed", message: "The stream was stopped." });
    }
    // Before anything is sent of it, and again for what was muted while that was waited for.
    const heedMuted = () => (track.enabled = !this.muted.includes(track.kind));
    heedMuted();
    if (!this.media.getTracks().some(({ kind }) => kind === track.kind)) return this.#add(track);
    const sender = this.#senders.get(track.kind);
    try {
      await sender?.replaceTrack(track);
    } catch (error) {
      // A connection that was closed meanwhile has no say: the next one sends what is in `media`.
      if (this.#senders.get(track.kind) === sender) {
        track.stop();
        throw error;
      }
    }
    heedMuted();
    for (const old of this.media.getTracks()) {
      if (old.kind === track.kind && old !== track) {
        this.media.removeTrack(old);
        old.stop();
      }
    }
    this.media.addTrack(track);
  }

  async #add(track) {
    this.media.addTrack(track);
    try {
      await this.#room.update(this);
    } catch (error) {
      this.media.removeTrack(track);
      track.stop();
      throw error;
    }
  }

  /**
   * Goes on with another camera or microphone.
   *
   * @param {"video"|"audio"} kind
   * @param {string} deviceId Of MediaDevices.enumerateDevices.
   * @param {MediaTrackConstraints=} constraints
   */
  async useDevice(kind, deviceId, constraints = {}) {
    checkKind(kind);
    const media = await navigator.mediaDevices.getUserMedia({ [kind]: { ...constraints, deviceId: { exact: deviceId } } });
    await this.replaceTrack(media.getTracks()[0]);
  }

  /** Ends the stream, and stops its tracks. */
  async stop() {
    this.#isStopped = true;
    for (const track of this.media.getTracks()) track.stop();
    await this.#room.unpublish(this);
  }
}

/** What would be published in part, or not at all, is refused. */
function checkMedia(media) {
  if (!(media instanceof MediaStream)) throw badRequest("What is published is a MediaStream.");
  const tracks = media.getTracks();
  if (tracks.length === 0) throw badRequest("There is no track to publish.");
  for (const track of tracks) {
    checkLive(track);
    if (tracks.some((other) => other !== track && other.kind === track.kind)) {
      throw badRequest("A stream has at most one track of each kind: publish the second one as a stream of its own.");
    }
  }
}

function checkLive(track) {
  if (track.readyState === "ended") throw badRequest(`The ${track.kind} track has ended: nothing of it can be sent.`);
}

function checkKind(kind) {
  if (!KINDS.includes(kind)) throw badRequest("A kind of media is audio or video.");
}

const KINDS = ["audio", "video"];

// An encoding with fewer lines than that is of no use to anybody.
const LOWEST_LINES = 135;
const MOST_ENCODINGS = 3;

/** As many as the picture is large enough for: each has half the lines of the next. */
function encodingsFor(track) {
  if (!track) return 1;
  const { height = 480, width = height } = track.getSettings();
  return Math.min(MOST_ENCODINGS, Math.max(1, 1 + Math.floor(Math.log2(Math.min(height, width) / LOWEST_LINES))));
}

/** For RTCRtpTransceiverInit: the lowest first, under the names that the server knows in this order. */
function sendEncodings(count) {
  const rids = ["l", "m", "h"].slice(-count);
  // Where several are asked for without a mode, some browsers send VP9 as layers of one encoding.
  return rids.map((rid, place) => ({ rid, scaleResolutionDownBy: 2 ** (count - 1 - place), scalabilityMode: "L1T1" }));
}

// Where a publisher doesn't say how large his picture is, its lowest encoding may have so many lines.
const USUAL_LINES = 180;

/**
 * The place of the encoding that is large enough to be shown with a height, or lacks a little of it.
 *
 * @param {number} height Of what is shown.
 * @param {number} count Encodings, each of which has twice the lines of the one before.
 * @param {number=} lines Those of the best.
 */
function encodingFor(height, count, lines = USUAL_LINES * 2 ** (count - 1)) {
  const place = Math.ceil(Math.log2(Math.max(1, height) / lines) - 0.3) + count - 1;
  return Math.min(Math.max(0, place), count - 1);
}
