// How an encrypted frame is dressed so that browsers packetise it and a forwarder finds keyframes. A receiver uses nothing of what is
// in the clear: all of the frame is behind it, encrypted. Docs/Encryption.md says what is given away.

// The first bytes of an H.264 slice that stay readable: its NAL header, and behind it which parameter set it belongs to.
const SLICE_BYTES = 5;
const START_CODE = [0, 0, 0, 1];
// Ends the last NAL unit, which must not end in zeros.
const STOP_BYTE = 0x80;
const OBU_SEQUENCE_HEADER = 1;
const OBU_FRAME = 6;
const OBU_HAS_SIZE = 0x02;

const NOTHING = new Uint8Array(0);

/** The codecs whose frames can be encrypted. RTX and forward error correction carry frames that are encrypted already. */
const DRESSINGS = {
  "audio/opus": { clear: () => NOTHING, wrap: plain, unwrap: (data) => data },
  "video/vp8": { clear: clearVP8, wrap: plain, unwrap: (data) => data.subarray(clearVP8(data).length) },
  // Packets say all that is needed in their descriptor.
  "video/vp9": { clear: () => NOTHING, wrap: plain, unwrap: (data) => data },
  "video/h264": { clear: clearH264, wrap: wrapH264, unwrap: unwrapH264 },
  "video/av1": { clear: clearAV1, wrap: wrapAV1, unwrap: unwrapAV1 },
};

/** @returns {{clear: Function, wrap: Function, unwrap: Function} | undefined} Undefined for a codec that can't be encrypted. */
function dressing(mimeType) {
  return DRESSINGS[mimeType?.toLowerCase()];
}

function plain(clear, sealed) {
  return joined([clear, sealed]);
}

/**
 * A frame tag (RFC 6386 §9.1) that tells keyframes, and of those the start code and the picture's size, which browsers read. It
 * announces a longer first partition than there can be, so that no decoder takes what follows for a frame.
 */
function clearVP8(frame) {
  const tag = [0xf0 | (frame[0] & 1), 0xff, 0xff];
  return frame[0] & 1 ? Uint8Array.from(tag) : joined([tag, frame.subarray(3, 10)]);
}

// H.264: parameter sets, and the beginning of the first slice.

function clearH264(frame) {
  const parts = [];
  for (const unit of nalUnits(frame)) {
    const type = unit[0] & 0x1f;
    if (type === 7 || type === 8) parts.push(START_CODE, unit);
    if (type >= 1 && type <= 5) {
      const beginning = new Uint8Array(SLICE_BYTES).fill(STOP_BYTE);
      beginning.set(unit.subarray(0, SLICE_BYTES));
      return joined([...parts, START_CODE, beginning]);
    }
  }
  throw new Error("An H.264 frame without a slice.");
}

function wrapH264(clear, sealed) {
  return joined([clear, escaped(sealed, trailingZeros(clear)), [STOP_BYTE]]);
}

function unwrapH264(data) {
  for (const unit of nalUnits(data)) {
    const type = unit[0] & 0x1f;
    if (type < 1 || type > 5) continue;
    return unescaped(unit.subarray(SLICE_BYTES, unit.length - 1), trailingZeros(unit.subarray(0, SLICE_BYTES)));
  }
  return NOTHING;
}

/** NAL units of an Annex B byte stream, without their start codes. */
function* nalUnits(bytes) {
  let start = nextStartCode(bytes, 0);
  while (start < bytes.length) {
    const from = start + 3;
    start = nextStartCode(bytes, from);
    let to = start;
    while (start < bytes.length && to > from && bytes[to - 1] === 0) to -= 1;
    if (to > from) yield bytes.subarray(from, to);
  }
}

function nextStartCode(bytes, from) {
  for (let index = from; index + 2 < bytes.length; index += 1) {
    if (bytes[index + 2] > 1) index += 2;
    else if (bytes[index] === 0 && bytes[index + 1] === 0 && bytes[index + 2] === 1) return index;
  }
  return bytes.length;
}

function trailingZeros(bytes) {
  let count = 0;
  while (count < bytes.length && bytes[bytes.length - 1 - count] === 0) count += 1;
  return count;
}

/** Keeps start codes out of what is inside a NAL unit (ITU-T H.264 §7.4.1). */
function escaped(bytes, zerosBefore) {
  const result = new Uint8Array(bytes.length + Math.ceil(bytes.length / 2) + 1);
  let length = 0;
  let zeros = zerosBefore;
  for (const byte of bytes) {
    if (zeros >= 2 && byte <= 3) {
      result[length++] = 3;
      zeros = 0;
    }
    result[length++] = byte;
    zeros = byte === 0 ? zeros + 1 : 0;
  }
  return result.subarray(0, length);
}

function unescaped(bytes, zerosBefore) {
  const result = new Uint8Array(bytes.length);
  let length = 0;
  let zeros = zerosBefore;
  for (const byte of bytes) {
    if (zeros >= 2 && byte === 3) {
      zeros = 0;
      continue;
    }
    result[length++] = byte;
    zeros = byte === 0 ? zeros + 1 : 0;
  }
  return result.subarray(0, length);
}

// AV1: of a keyframe its sequence header. All of the frame is the payload of one OBU.

function clearAV1(frame) {
  for (const { type, payload } of obus(frame)) if (type === OBU_SEQUENCE_HEADER) return obu(OBU_SEQUENCE_HEADER, payload);
  return NOTHING;
}

function wrapAV1(clear, sealed) {
  return joined([clear, obu(OBU_FRAME, sealed)]);
}

function unwrapAV1(data) {
  for (const { type, payload } of obus(data)) if (type === OBU_FRAME) return payload;
  return NOTHING;
}

function obu(type, payload) {
  const size = [];
  let rest = payload.length;
  do {
    size.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return joined([[(type << 3) | OBU_HAS_SIZE], size, payload]);
}

/** Open bitstream units (AV1 specification §5.3). */
function* obus(bytes) {
  let at = 0;
  while (at < bytes.length) {
    const header = bytes[at++];
    if (header & 0x04) at += 1;
    let size = bytes.length - at;
    if (header & OBU_HAS_SIZE) {
      size = 0;
      for (let shift = 0; shift < 28; shift += 7) {
        const byte = bytes[at++] ?? 0;
        size |= (byte & 0x7f) << shift;
        if (!(byte & 0x80)) break;
      }
    }
    yield { type: (header >> 3) & 0x0f, payload: bytes.subarray(at, at + size) };
    at += size;
  }
}

function joined(parts) {
  const result = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}
