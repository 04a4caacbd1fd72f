// The worker of the encryption, which is made of this file, `frames.js` and `sframe.js`. The module's parts are joined in the order of
// their names: this one, which begins to work at once, needs to be the last.

const WORKER_NAME = "sluice-encryption";

// So many frames in a row that can't be opened or sealed are told: one may be a replay, or have outrun its key.
const FAILURES_TOLD = 5;

/** Answers the page, and takes the frames of each sender and receiver that it hands over. */
function serve(scope) {
  const keys = new RoomKeys();
  const statistics = { sent: noFrames(), received: noFrames() };
  const handle = {
    key: ({ generation, secret, step }) => keys.add(generation, secret, step),
    ratchet: () => keys.ratchet(),
    seal: async ({ bytes }) => ({ bytes: await keys.seal(bytes) }),
    open: async ({ bytes }) => ({ bytes: await keys.open(bytes) }),
    statistics: () => ({ statistics }),
  };
  scope.onmessage = async ({ data }) => {
    if (data.type === "streams") return pipe(data, data.options);
    try {
      scope.postMessage({ id: data.id, ...(await handle[data.type](data)) });
    } catch (error) {
      scope.postMessage({ id: data.id, error: error.message || "It can't be decrypted." });
    }
  };
  scope.onrtctransform = ({ transformer }) => pipe(transformer, transformer.options);

  function pipe(end, { direction, label }) {
    const transform = direction === "send"
      ? sealFrames(keys, statistics.sent, (message) => scope.postMessage({ type: "unsealed", message }))
      : openFrames(keys, statistics.received, (readable, isKeyframe) => {
        scope.postMessage({ type: "readable", label, readable });
        // The decoder has missed what was before.
        if (readable && !isKeyframe) end.sendKeyFrameRequest?.()?.catch(() => {});
      });
    end.readable.pipeThrough(new TransformStream({ transform })).pipeTo(end.writable).catch(() => {});
  }
}

function noFrames() {
  return { frames: 0, milliseconds: 0, failed: 0 };
}

/** A frame that can't be sealed goes nowhere. */
function sealFrames(keys, figures, tell) {
  let failures = 0;
  return async (frame, controller) => {
    const start = performance.now();
    try {
      const data = new Uint8Array(frame.data);
      const codec = dressing(frame.getMetadata().mimeType);
      if (!codec) throw new Error("A codec that can't be encrypted.");
      const sealed = codec.wrap(codec.clear(data), await keys.seal(data));
      frame.data = exactBuffer(sealed);
    } catch (error) {
      figures.failed += 1;
      failures += 1;
      if (failures === FAILURES_TOLD) tell(error.message);
      return;
    }
    failures = 0;
    figures.frames += 1;
    figures.milliseconds += performance.now() - start;
    controller.enqueue(frame);
  };
}

/** A frame that can't be opened goes nowhere: a decoder sees nothing that was not sealed by somebody who has the key. */
function openFrames(keys, figures, tell) {
  let failures = 0;
  let isReadable = null;
  return async (frame, controller) => {
    const start = performance.now();
    try {
      const codec = dressing(frame.getMetadata().mimeType);
      if (!codec) throw new Error("A codec that can't be encrypted.");
      frame.data = exactBuffer(await keys.open(codec.unwrap(new Uint8Array(frame.data))));
    } catch {
      figures.failed += 1;
      failures += 1;
      // Told again and again: the m-line may be another stream's meanwhile, which nobody tells us.
      if (failures % FAILURES_TOLD === 0) tell((isReadable = false));
      return;
    }
    failures = 0;
    if (!isReadable) tell((isReadable = true), frame.type === "key" || frame.type === undefined);
    figures.frames += 1;
    figures.milliseconds += performance.now() - start;
    controller.enqueue(frame);
  };
}

function exactBuffer(bytes) {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer;
}

if (globalThis.DedicatedWorkerGlobalScope && globalThis.name === WORKER_NAME) serve(globalThis);
