// The words of the statistics overlay.

import { rate } from "/assets/page.js";

/** Lines for one tile. @param {import("/assets/quality.js").Figures} figures */
export function linesOf(figures) {
  const picture = figures.width ? [`${figures.width} × ${figures.height}`, `${Math.round(figures.framesPerSecond)} fps`] : [];
  return [
    [...picture, figures.codec].filter(Boolean).join(" · "),
    `${rate(figures.bitsPerSecond)} · lost ${(figures.loss * 100).toFixed(1)} %`,
    `jitter ${milliseconds(figures.jitter)} · round trip ${figures.roundTrip === null ? "–" : milliseconds(figures.roundTrip)}`,
  ].join("\n");
}

/** Sums up what is sent and received, and what encryption costs. */
export function summaryOf(measured, ownIDs, encryption) {
  const total = (wanted) => [...measured].filter(([id]) => ownIDs.has(id) === wanted).reduce((sum, [, figures]) => sum + figures.bitsPerSecond, 0);
  const parts = [`Upload ${rate(total(true))}`, `Download ${rate(total(false))}`];
  if (encryption) {
    const { sent, received } = encryption;
    parts.push(`Encrypting ${perFrame(sent)}`, `Decrypting ${perFrame(received)}`);
    if (received.failed) parts.push(`${received.failed} frames not decrypted`);
  }
  return parts.join(" · ");
}

function perFrame({ frames, milliseconds: spent }) {
  return frames ? `${(spent / frames).toFixed(2)} ms a frame` : "–";
}

function milliseconds(seconds) {
  return `${Math.round(seconds * 1000)} ms`;
}
