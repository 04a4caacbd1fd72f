// How each stream arrives and leaves: figures of the browser's statistics, and a level made of them.

/**
 * @typedef {object} Figures Over the time since the measurement before.
 * @property {number} width
 * @property {number} height
 * @property {number} framesPerSecond
 * @property {number} bitsPerSecond
 * @property {string} codec
 * @property {number} loss The share of packets that got lost, 0 to 1.
 * @property {number} jitter Seconds.
 * @property {number|null} roundTrip Seconds.
 * @property {number} frozen The share of the time that the picture stood still, 0 to 1.
 * @property {boolean} isSilent Whether nothing came at all.
 */

const ORDER = ["good", "fair", "poor"];

/** @param {Figures} figures @returns {"good"|"fair"|"poor"} */
export function levelOf({ loss, jitter, frozen, isSilent }) {
  if (isSilent || loss > 0.1 || frozen > 0.2 || jitter > 0.15) return "poor";
  if (loss > 0.02 || frozen > 0.02 || jitter > 0.05) return "fair";
  return "good";
}

/** The worse of two levels; either may be missing. */
export function worse(one, other) {
  return ORDER[Math.max(ORDER.indexOf(one), ORDER.indexOf(other))];
}

/** Measures all streams of a room, again and again. */
export class Measurements {
  #before = new Map();

  /**
   * @param {import("/sdk/sluice.js").Room} room
   * @returns {Promise<Map<string, Figures>>} By stream; the ones measured for the first time are not in it.
   */
  async of(room) {
    const { send, receive } = room.connections;
    const [sent, received] = await Promise.all([reportsOf(send), reportsOf(receive)]);
    const result = new Map();
    for (const stream of room.published) this.#measure(result, stream, sent, outbound);
    for (const stream of room.streams.values()) this.#measure(result, stream, received, inbound);
    for (const id of this.#before.keys()) if (!room.streams.has(id) && !room.published.some((own) => own.id === id)) this.#before.delete(id);
    return result;
  }

  #measure(result, stream, reports, read) {
    const counters = read(stream.media.getTracks().map((track) => track.id), reports);
    if (!counters) {
      this.#before.delete(stream.id);
      return;
    }
    counters.at = performance.now();
    const before = this.#before.get(stream.id);
    this.#before.set(stream.id, counters);
    // Counters begin again where a track has been replaced.
    if (before && before.packets <= counters.packets) result.set(stream.id, figuresOf(before, counters));
  }
}

async function reportsOf(connection) {
  return connection ? [...(await connection.getStats()).values()] : [];
}

function inbound(trackIDs, reports) {
  const rtp = reports.filter((item) => item.type === "inbound-rtp" && trackIDs.includes(item.trackIdentifier));
  if (rtp.length === 0) return null;
  const video = rtp.find((item) => item.kind === "video");
  return {
    ...shared(rtp, video, reports),
    bytes: sum(rtp, "bytesReceived"),
    packets: sum(rtp, "packetsReceived"),
    lost: sum(rtp, "packetsLost"),
    frames: video?.framesDecoded ?? 0,
    frozen: video?.totalFreezesDuration ?? 0,
    jitter: Math.max(...rtp.map((item) => item.jitter ?? 0)),
  };
}

function outbound(trackIDs, reports) {
  const sources = reports.filter((item) => item.type === "media-source" && trackIDs.includes(item.trackIdentifier)).map((item) => item.id);
  const rtp = reports.filter((item) => item.type === "outbound-rtp" && sources.includes(item.mediaSourceId));
  if (rtp.length === 0) return null;
  const remote = reports.filter((item) => item.type === "remote-inbound-rtp" && rtp.some((own) => own.id === item.localId));
  const video = rtp.filter((item) => item.kind === "video").toSorted((one, two) => (two.frameWidth ?? 0) - (one.frameWidth ?? 0))[0];
  return {
    ...shared(rtp, video, reports),
    bytes: sum(rtp, "bytesSent"),
    packets: sum(rtp, "packetsSent"),
    lost: sum(remote, "packetsLost"),
    frames: video?.framesEncoded ?? 0,
    frozen: 0,
    jitter: Math.max(0, ...remote.map((item) => item.jitter ?? 0)),
  };
}

function shared(rtp, video, reports) {
  const codec = reports.find((item) => item.id === (video ?? rtp[0]).codecId);
  const pair = reports.find((item) => item.type === "candidate-pair" && item.nominated && item.currentRoundTripTime !== undefined);
  return {
    width: video?.frameWidth ?? 0,
    height: video?.frameHeight ?? 0,
    codec: codec?.mimeType.split("/")[1] ?? "",
    roundTrip: pair?.currentRoundTripTime ?? null,
  };
}

function figuresOf(before, now) {
  const seconds = (now.at - before.at) / 1000;
  const packets = now.packets - before.packets;
  const lost = Math.max(0, now.lost - before.lost);
  return {
    width: now.width,
    height: now.height,
    codec: now.codec,
    roundTrip: now.roundTrip,
    jitter: now.jitter,
    framesPerSecond: Math.max(0, now.frames - before.frames) / seconds,
    bitsPerSecond: (Math.max(0, now.bytes - before.bytes) * 8) / seconds,
    loss: packets + lost > 0 ? lost / (packets + lost) : 0,
    frozen: Math.max(0, now.frozen - before.frozen) / seconds,
    isSilent: packets === 0,
  };
}

function sum(items, name) {
  return items.reduce((total, item) => total + (item[name] ?? 0), 0);
}
