// What we publish into a room.

/** A stream that we publish. */
export class LocalStream {
  /** @type {string[]} Kinds of media that are muted. */ muted = [];
  #room;
  #senders = new Map();

  constructor(room, media, options) {
    this.#room = room;
    this.media = media;
    this.kind = options.kind ?? "camera";
    this.codec = options.codec;
    this.id = options.id ?? randomID();
    this.muted = media.getTracks().filter((track) => !track.enabled).map((track) => track.kind);
  }

  /** The room calls it when a track has got its sender. */
  attach(kind, sender) {
    this.#senders.set(kind, sender);
  }

  /** Mutes or unmutes `audio` or `video`, and tells the others. */
  async setMuted(kind, muted) {
    for (const track of this.media.getTracks()) if (track.kind === kind) track.enabled = !muted;
    this.muted = this.muted.filter((other) => other !== kind).concat(muted ? [kind] : []);
    await this.#room.tellMuted(this);
  }

  /** Sends another track in place of the one of its kind: another camera, without anybody noticing. */
  async replaceTrack(track) {
    await this.#senders.get(track.kind)?.replaceTrack(track);
    for (const old of this.media.getTracks()) {
      if (old.kind === track.kind && old !== track) {
        this.media.removeTrack(old);
        old.stop();
      }
    }
    track.enabled = !this.muted.includes(track.kind);
    this.media.addTrack(track);
  }

  /**
   * Goes on with another camera or microphone.
   *
   * @param {"video"|"audio"} kind
   * @param {string} deviceId Of MediaDevices.enumerateDevices.
   * @param {MediaTrackConstraints=} constraints
   */
  async useDevice(kind, deviceId, constraints = {}) {
    const media = await navigator.mediaDevices.getUserMedia({ [kind]: { ...constraints, deviceId: { exact: deviceId } } });
    await this.replaceTrack(media.getTracks()[0]);
  }

  /** Ends the stream, and stops its tracks. */
  async stop() {
    for (const track of this.media.getTracks()) track.stop();
    await this.#room.unpublish(this);
  }
}

/** The codec that is wanted comes first; the others stay behind it, with what repairs them. */
function preferred(codecs, mimeType) {
  const isWanted = (codec) => codec.mimeType.toLowerCase() === mimeType.toLowerCase();
  return [...codecs.filter(isWanted), ...codecs.filter((codec) => !isWanted(codec))];
}
