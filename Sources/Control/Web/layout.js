// Where tiles go. Pure functions of how many there are and of the room for them, in pixels.

const GAP = 8;
const WIDEST = 16 / 9;
// Below it nobody is recognised: then the grid scrolls.
const SMALLEST_WIDTH = 132;
const NARROW = 600;
const STRIP_WIDTH = [132, 260];
const SMALLEST_STRIP_TILE = 80;

/**
 * @typedef {{left: number, top: number, width: number, height: number}} Rectangle
 */

/**
 * A grid of equal tiles, as large as possible, all of them in view; where they would get too small it is higher than `height`.
 *
 * @returns {Rectangle[]}
 */
export function gridOf(count, width, height) {
  if (count === 0) return [];
  // Pictures of people may be cut at their sides to fill a telephone's screen.
  const narrowest = width < NARROW ? 1 : 4 / 3;
  let best = null;
  for (let columns = 1; columns <= count; columns += 1) {
    const size = fitted(share(width, columns), share(height, Math.ceil(count / columns)), narrowest);
    if (size.width < SMALLEST_WIDTH) continue;
    if (!best || size.width * size.height > best.width * best.height) best = { ...size, columns };
  }
  return placed(count, best ?? scrolling(count, width), width, height);
}

/**
 * One large tile and the others in a strip: beside it, or below it where that is narrow.
 *
 * @returns {(Rectangle|null)[]} The large one first; null where the strip has no place left.
 */
export function speakerOf(count, width, height) {
  if (count <= 1) return gridOf(count, width, height);
  return width >= NARROW && width > height ? besideStrip(count - 1, width, height) : aboveStrip(count - 1, width, height);
}

function besideStrip(others, width, height) {
  const strip = Math.min(Math.max(width * 0.2, STRIP_WIDTH[0]), STRIP_WIDTH[1]);
  let size;
  for (const columns of [1, 2, 3]) {
    const tile = share(strip, columns);
    if (tile < SMALLEST_STRIP_TILE) break;
    size = { width: tile, height: tile / WIDEST, columns, rows: Math.max(1, Math.floor((height + GAP) / (tile / WIDEST + GAP))) };
    if (size.rows * columns >= others) break;
  }
  const large = { ...centred(fitted(width - strip - GAP, height, 4 / 3), width - strip - GAP, height) };
  return [large, ...stripOf(others, size, width - strip, 0)];
}

function aboveStrip(others, width, height) {
  const columns = 4;
  const tile = share(width, columns);
  const size = { width: tile, height: tile * 0.75, columns, rows: Math.min(2, Math.ceil(others / columns)) };
  const below = size.rows * (size.height + GAP);
  const large = centred(fitted(width, height - below, 1), width, height - below);
  return [large, ...stripOf(others, size, 0, height - below + GAP)];
}

function stripOf(count, { width, height, columns, rows }, left, top) {
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    if (row >= rows) return null;
    return { left: left + (index % columns) * (width + GAP), top: top + row * (height + GAP), width, height };
  });
}

function scrolling(count, width) {
  const isNarrow = width < NARROW;
  const columns = Math.min(count, isNarrow ? 2 : Math.floor((width + GAP) / (SMALLEST_WIDTH + GAP)));
  const tile = share(width, columns);
  return { width: tile, height: tile / (isNarrow ? 4 / 3 : WIDEST), columns };
}

/** Centres the rows, the last one too. */
function placed(count, { width: tile, height: tileHeight, columns }, width, height) {
  const rows = Math.ceil(count / columns);
  const top = Math.max(0, (height - rows * (tileHeight + GAP) + GAP) / 2);
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const left = (width - inRow * (tile + GAP) + GAP) / 2;
    return { left: left + (index % columns) * (tile + GAP), top: top + row * (tileHeight + GAP), width: tile, height: tileHeight };
  });
}

function share(length, parts) {
  return (length - GAP * (parts - 1)) / parts;
}

/** The largest tile in this much room whose width is `narrowest` to 16/9 times its height. */
function fitted(width, height, narrowest) {
  if (width > height * WIDEST) return { width: Math.max(0, height * WIDEST), height: Math.max(0, height) };
  return { width, height: Math.min(height, width / narrowest) };
}

function centred(size, width, height) {
  return { left: (width - size.width) / 2, top: (height - size.height) / 2, ...size };
}
